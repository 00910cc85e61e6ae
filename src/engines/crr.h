/* engines/crr - what serve.c needs of tcp_crr: its connections are short, its report is asked for apart. */
#ifndef KN_ENGINES_CRR_H
#define KN_ENGINES_CRR_H

#include "engines/flow.h"

/* One transaction, blocking; `extra_size` bytes after the hello were read already. */
int kn_crr_serve(struct kn_server *server, int fd, const struct kn_hello *hello, size_t extra_size, struct kn_error *err);
/* Welcome and report of what this server has counted for the run. */
int kn_crr_serve_stats(struct kn_server *server, int fd, const struct kn_hello *hello, struct kn_error *err);
/* serve.c: welcome, and a report as a trailer. */
int kn_serve_welcome(const struct kn_server *server, int fd, struct kn_error *err);
int kn_serve_report(int fd, const json_t *report, struct kn_error *err);

#endif
