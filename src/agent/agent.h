/* agent - the listener that answers engines and orchestrators through one port, TCP and UDP.
 *
 * The first bytes say what a connection is: an HTTP method is control (libmicrohttpd takes the socket), "KNBL" is a
 * hello, all else is refused and counted. Nobody is served without the token: control carries it in the header
 * Knbl-Token, data in the hello's keyed hash, UDP after a cookie. Runs end by themselves: by their duration, by the
 * limits, or when nobody has asked after them for a while.
 *
 * Control is HTTP/1.1 and JSON. The header Knbl-Protocol, where it is sent, must match. What is not known is absent.
 *   GET    /v1/agent      {"name","node","version","protocol","pid","kernel","cpus","quota","uptime_s","runs",
 *                         "observations","flows","flows_served","refused":{KIND: count},"environment":{"kernel","machine","hostname",
 *                         "cpu_model","cpus","cpus_allowed","quota","cgroup","interface" (of the default route),"mtu",
 *                         "congestion_control","congestion_controls"}}
 *   POST   /v1/runs       {"spec":{…},"to":{"host","port"},"token","id"} -> 201 {"id"}; token: the target's, else our own;
 *                         id: one's own, so that where the answer was lost it can be asked again and is not done twice
 *   GET    /v1/runs/ID    {"id","state":"running|done|failed","progress":{"phase","elapsed_s","total_s","ops","bytes"},
 *                         "result":{…} once over}; ?wait=MS waits for the end, at most 60000
 *   DELETE /v1/runs/ID    stops it; answers as GET does, with what was measured; the run is forgotten
 *   POST   /v1/observe    {"monitor":{"interval_ns"},…} -> 201 {"id"}: watches this machine from now on
 *                         (meter/observe.h)
 *   GET    /v1/observe/ID {"id"}: somebody still wants it; unasked it ends as a run does
 *   DELETE /v1/observe/ID {"monitor":{…},…}: ends it; what was seen
 *   GET    /v1/meter      a reading of CPU, memory and conntrack of this node and cgroup, now
 * Errors are {"error":{"code","message"}} with 400, 401, 404, 409 (it is ending), 426 (version), 429 (too many runs);
 * a run that is not there (never was, was stopped, was forgotten) has the code "lost". */
#ifndef KN_AGENT_AGENT_H
#define KN_AGENT_AGENT_H

#include <stdint.h>

#include "core/error.h"
#include "engines/engine.h"
#include "net/addr.h"

struct kn_agent_config {            /* a number that is 0 is the default */
    struct kn_addr listen;          /* TCP and UDP; port 0 picks one */
    const char *unix_path;          /* control only, for the lab; NULL: none. "@name" is abstract */
    const char *token;              /* at least 16 characters */
    struct kn_identity me;          /* name and node; empty: the host's name */
    uint64_t max_duration_ns;       /* default 1 h */
    unsigned max_runs;              /* default 64 */
    uint64_t orphan_ns;             /* default 30 s: a run that nobody asked after is stopped */
    uint64_t hello_ns;              /* default 5 s: what a connection has to say what it is */
};
void kn_agent_defaults(struct kn_agent_config *config);
/* "10.0.0.1:7099", "[fd00::1]:0", "name", or ":7099" for every address of both families, as `listen` wants it. */
int kn_agent_listen(const char *text, struct kn_addr *out, struct kn_error *err);

struct kn_agent;
/* Bound and listening, serving in threads of its own. */
struct kn_agent *kn_agent_new(const struct kn_agent_config *config, struct kn_error *err);
uint16_t kn_agent_port(const struct kn_agent *agent);
void kn_agent_stop(struct kn_agent *agent);     /* async-signal-safe: asks it to end */
void kn_agent_wait(struct kn_agent *agent);     /* until it was asked to end */
void kn_agent_free(struct kn_agent *agent);     /* stops, ends every run, joins every thread */

#endif
