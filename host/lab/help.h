/* help: what the tables of wick-lab and wick say, as manual pages and as completion for shells. */
#ifndef WICK_LAB_HELP_H
#define WICK_LAB_HELP_H

/* `wick-lab man [wick | wick-lab]`, `wick-lab completion bash|zsh [wick | wick-lab]`: to stdout.
 * The words are what follows the command. They return the exit status. */
int man_print(int argc, char **argv);
int completion_print(int argc, char **argv);

#endif
