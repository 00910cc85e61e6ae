/* run/account - the accounts that servers send in band: one for each server that answered, with all its flows. */
#ifndef KN_RUN_ACCOUNT_H
#define KN_RUN_ACCOUNT_H

#include "run/worker.h"

/* Adds a flow's account to that of its server in the run. */
int kn_run_account(struct kn_worker *w, const json_t *account, struct kn_error *err);

#endif
