/* run/payload - the payload of measurements: bytes that no path can compress. */
#ifndef KN_RUN_PAYLOAD_H
#define KN_RUN_PAYLOAD_H

#include <stddef.h>
#include <stdint.h>

#define KN_PAYLOAD_SIZE (64u << 10)

const uint8_t *kn_payload(void);                /* so many of them, always the same */
void kn_payload_fill(uint8_t *to, size_t size); /* repeats them to fill `to` */
uint8_t *kn_payload_new(size_t size);           /* allocated and filled; NULL: out of memory */

#endif
