/* engines/payload - what measurements carry beside their heads: bytes that no path can compress. */
#ifndef KN_ENGINES_PAYLOAD_H
#define KN_ENGINES_PAYLOAD_H

#include <stddef.h>
#include <stdint.h>

#define KN_PAYLOAD_SIZE (64u << 10)

const uint8_t *kn_payload(void);                /* so many of them, always the same */
void kn_payload_fill(uint8_t *to, size_t size); /* with them, again and again */
uint8_t *kn_payload_new(size_t size);           /* memory that is full of them; NULL where there is none */

#endif
