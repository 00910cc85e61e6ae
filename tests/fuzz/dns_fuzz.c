/* The DNS parser over any message, and names, patterns and resolv.conf over any text. The first byte says which. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "engines/dns/names.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int truth)
{
    if (!truth)
        abort();
}

/* The question of the message itself, so that its records are looked at. */
static size_t question(const uint8_t *wire, size_t size, uint8_t name[KN_DNS_NAME_MAX], uint16_t *type)
{
    size_t at = 12, n;
    if (size < 12 || !(n = kn_dns_name_read(wire, size, &at, name)) || size - at < 4)
        return 0;
    *type = (uint16_t)(wire[at] << 8 | wire[at + 1]);
    return n;
}

static void try_message(const uint8_t *data, size_t size)
{
    uint8_t name[KN_DNS_NAME_MAX] = {1, 'a', 0}, *wire = malloc(size ? size : 1); /* no byte behind it may be read */
    uint16_t type = KN_DNS_A;
    struct kn_dns_answer a, again;
    demand(wire != NULL);
    memcpy(wire, data, size);
    size_t n = question(wire, size, name, &type);
    enum kn_dns_got got = kn_dns_read(wire, size, name, n ? n : 3, type, &a);
    demand(a.rcode < 16);
    demand(got != KN_DNS_ANSWER || (size >= 12 && kn_dns_id(wire, size) == a.id));
    demand(kn_dns_read(wire, size, name, n ? n : 3, type, &again) == got && again.content == a.content);
    free(wire);
}

static void try_names(const char *text)
{
    struct kn_error err = {.message = ""};
    char name[KN_DNS_TEXT_MAX];
    uint8_t wire[KN_DNS_NAME_MAX], read[KN_DNS_NAME_MAX];
    uint64_t n = kn_dns_names_count(text, &err), picks[] = {0, n / 2, n - 1};
    demand(n || err.message[0]);
    for (size_t i = 0; n && i < 3; i++) {
        size_t at = 0;
        kn_dns_names_at(text, picks[i], name);
        demand(strlen(name) < KN_DNS_TEXT_MAX);
        size_t packed = kn_dns_name_pack(name, wire);
        demand(packed <= KN_DNS_NAME_MAX);
        if (packed)
            demand(kn_dns_name_read(wire, packed, &at, read) == packed && !memcmp(wire, read, packed));
    }
}

static void try_resolv(const char *text)
{
    struct kn_dns_resolv r;
    char candidate[KN_DNS_TEXT_MAX];
    unsigned n = 0;
    kn_dns_resolv_parse(text, &r);
    demand(r.n_search <= KN_DNS_SEARCH_MAX && r.ndots <= 15);
    while (kn_dns_candidate(&r, "a.b", n, candidate))
        n++;
    demand(n == r.n_search + 1);
    kn_dns_reverse(text, candidate);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    char *text = malloc(size);
    demand(text != NULL);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    switch (data[0] % 3) {
    case 0: try_message(data + 1, size - 1); break;
    case 1: try_names(text); break;
    default: try_resolv(text);
    }
    free(text);
    return 0;
}
