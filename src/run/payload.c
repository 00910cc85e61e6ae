#include "run/payload.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static uint8_t bytes[KN_PAYLOAD_SIZE];

static void make(void)
{
    uint32_t x = 2463534242u;
    for (size_t i = 0; i < sizeof bytes; i++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        bytes[i] = (uint8_t)x;
    }
}

const uint8_t *kn_payload(void)
{
    static pthread_once_t made = PTHREAD_ONCE_INIT;
    pthread_once(&made, make);
    return bytes;
}

void kn_payload_fill(uint8_t *to, size_t size)
{
    const uint8_t *from = kn_payload();
    for (size_t n; size; to += n, size -= n) {
        n = size < KN_PAYLOAD_SIZE ? size : KN_PAYLOAD_SIZE;
        memcpy(to, from, n);
    }
}

uint8_t *kn_payload_new(size_t size)
{
    uint8_t *made = malloc(size ? size : 1);
    if (made)
        kn_payload_fill(made, size);
    return made;
}
