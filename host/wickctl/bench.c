#include "call.h"
enum ctl_exit bench_command(struct call *call, struct session *session) {
    (void)call;
    (void)session;
    return CTL_OK;
}
