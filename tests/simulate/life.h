/* life: one server from its opening to its end, with all that happens to it. */
#ifndef WICK_SIMULATE_LIFE_H
#define WICK_SIMULATE_LIFE_H

/* Everything follows from sim.seed. */
void life_run(void);

#endif
