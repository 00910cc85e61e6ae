/* run/source - the local addresses of a run's flows, if one address has too few ports for all of them.
 *
 * A connection to one address and port needs a local port of its own: net.ipv4.ip_local_port_range has some 28,000. A
 * run with more flows also uses the other addresses of the interface that it leaves by (over loopback, all of
 * 127.0.0.0/8). If these are too few, it is refused before anything is opened. */
#ifndef KN_RUN_SOURCE_H
#define KN_RUN_SOURCE_H

#include "core/spec.h"
#include "net/addr.h"

#define KN_SOURCES_MAX 64

struct kn_sources {
    unsigned n; /* 0: the kernel chooses the address */
    struct kn_addr at[KN_SOURCES_MAX];
};

int kn_sources_check_files(const struct kn_spec *spec, struct kn_error *err); /* KN_E_LIMIT: too few open files */
/* `source`, if not "", is the address that all flows have. KN_E_LIMIT if there are too few ports. */
int kn_sources_find(const struct kn_spec *spec, const struct kn_addr *peer, const char *source, struct kn_sources *out,
                    struct kn_error *err);
unsigned kn_source_family(const char *source); /* 4 or 6; 0 of "" */
/* The address of a flow; its port is chosen on connect. -1 with errno. */
int kn_sources_bind(const struct kn_sources *s, unsigned flow, int fd);

#endif
