/* nodes: device nodes that the kernel's devtmpfs does not make: NVIDIA's driver registers numbers
 * and leaves the nodes to a program of its own. Not tried with a GPU yet. */
#ifndef WICK_BOOT_NODES_H
#define WICK_BOOT_NODES_H

/* The major number of a character device in the text of /proc/devices; -1: there is none. Pure. */
int nodes_major(const char *devices, const char *name);

/* The minor number in the text of /proc/driver/nvidia/gpus/.../information; -1: none. Pure. */
int nodes_gpu_minor(const char *information);

/* Tells about a node that could not be made. */
typedef void node_complaint(void *context, const char *path, const char *reason);

/* Makes the nodes of the drivers that are loaded, for root alone; returns how many. */
unsigned nodes_make(node_complaint *complain, void *context);

#endif
