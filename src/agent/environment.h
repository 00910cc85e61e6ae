/* agent/environment - where the agent runs: what a result must say of its machine to be understood later. */
#ifndef KN_AGENT_ENVIRONMENT_H
#define KN_AGENT_ENVIRONMENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

json_t *kn_environment(void); /* what is not known is left out */

/* Asks kube-proxy, which answers at this port of the loopback, how it works; "iptables", "ipvs", "nftables". False: it
 * gave no such answer within timeout_ns. */
#define KN_PROXY_MODE_SIZE 16
bool kn_proxy_mode(uint16_t port, uint64_t timeout_ns, char mode[KN_PROXY_MODE_SIZE]);

#endif
