#include "call.h"
enum ctl_exit top_command(struct call *call, struct session *session) {
    (void)call;
    (void)session;
    return CTL_OK;
}
