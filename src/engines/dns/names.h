/* engines/dns/names - the names that a run asks for, and how a pod asks for them (resolv.conf).
 *
 * A list of patterns: "www.example.com,host-{1..200}.example.com,{api,web}.default". Braces hold a range of numbers or
 * a list of words; the last ones change fastest. */
#ifndef KN_ENGINES_DNS_NAMES_H
#define KN_ENGINES_DNS_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "engines/dns/message.h"

#define KN_DNS_NAMES_MAX (1ull << 32)

/* How many names a text stands for; 0 with an error. */
uint64_t kn_dns_names_count(const char *text, struct kn_error *err);
/* The i-th of them. */
void kn_dns_names_at(const char *text, uint64_t i, char name[KN_DNS_TEXT_MAX]);

#define KN_DNS_SEARCH_MAX 6 /* as glibc */
struct kn_dns_resolv {
    char nameserver[64]; /* the first; "": none */
    char search[KN_DNS_SEARCH_MAX][KN_DNS_NAME_MAX];
    unsigned n_search, ndots;
};
void kn_dns_resolv_parse(const char *text, struct kn_dns_resolv *r);
int kn_dns_resolv_load(const char *path, struct kn_dns_resolv *r, struct kn_error *err);
/* The i-th name that is asked for in place of `name`, in glibc's order; false: there is none. */
bool kn_dns_candidate(const struct kn_dns_resolv *r, const char *name, unsigned i, char candidate[KN_DNS_TEXT_MAX]);

#endif
