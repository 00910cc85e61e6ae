/* engines/ping - the form of an answer to an echo of this run. */
#ifndef KN_ENGINES_PING_H
#define KN_ENGINES_PING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KN_PING_MARK 8u /* bytes before the number: raw sockets hear everybody's answers */

struct kn_ping_form {
    uint8_t mark[KN_PING_MARK], type;
    bool ip_head; /* the packet begins with the head of IPv4: on a raw socket */
    size_t size;  /* of the payload: at least the mark and the number of 8 bytes */
};
/* The number that an answer brings back; false: it is not for this run. */
bool kn_ping_answer(const struct kn_ping_form *form, const uint8_t *packet, size_t n, uint64_t *seq);

#endif
