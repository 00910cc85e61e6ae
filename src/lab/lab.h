/* lab - a cluster made of namespaces, inside a user + network + PID + mount namespace of its own.
 *
 * kn_lab_open forks the lab's keeper, PID 1 of the new namespaces, which dies with this process (SIGKILL too) and takes everything along. It
 * carries out requests, one at a time, over a socket pair. Requests and answers are JSON objects, so that scripts reach all of it:
 *   {"op":"node","name":…}                          -> {"name","ip":[…],"control":PATH}
 *   {"op":"pod","name":…,"node":…,"runtime":…,"mtu":…,"bandwidth":…,"cpu":…} -> {"name","ip":[…],"control":PATH}
 *   {"op":"service","name":…,"type":…,"ports":[…],"endpoints":[POD…],"affinity":…,"headless":…} -> {"ip":[…],"node_port":…}
 *   {"op":"delete","name":…}   {"op":"links"} counters   {"op":"exec","pod":…,"argv":[…]} …
 * An error is {"error":{"code","message"}}. PATH is a Unix socket that this process can connect to (through /proc/PID/root). */
#ifndef KN_LAB_LAB_H
#define KN_LAB_LAB_H

#include <jansson.h>

#include "core/error.h"

struct kn_lab;
struct kn_lab *kn_lab_open(const json_t *options, struct kn_error *err);  /* {"mtu","overlay","families","services","mode","token"} */
json_t *kn_lab_request(struct kn_lab *lab, const json_t *request, struct kn_error *err);
void kn_lab_close(struct kn_lab *lab);  /* waits until everything is gone */

#endif
