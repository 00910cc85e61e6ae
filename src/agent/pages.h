/* agent/pages - a small HTTP server of texts that the program hands it: GET and HEAD, one thread, no other input. */
#ifndef KN_AGENT_PAGES_H
#define KN_AGENT_PAGES_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "net/addr.h"

struct kn_page {
    unsigned status;  /* of HTTP */
    const char *type; /* Content-Type */
    const void *body;
    size_t size;
    uint64_t fresh_ns; /* the page is answered with 503 when it was not put again for this time; 0: never */
};

struct kn_pages;
struct kn_pages *kn_pages_new(const struct kn_addr *listen, struct kn_error *err);
uint16_t kn_pages_port(const struct kn_pages *pages);
/* Adds a page, or replaces it; all of it is copied. */
int kn_pages_put(struct kn_pages *pages, const char *path, const struct kn_page *page, struct kn_error *err);
void kn_pages_free(struct kn_pages *pages); /* NULL is fine */

#endif
