#include "agent/refused.h"

#include "core/json.h"

static const char *const names[KN_REFUSED_COUNT] = {
    [KN_REFUSED_GARBAGE] = "garbage", [KN_REFUSED_SILENT] = "silent",   [KN_REFUSED_CROWD] = "crowd",
    [KN_REFUSED_KEY] = "key",         [KN_REFUSED_VERSION] = "version", [KN_REFUSED_HELLO] = "hello",
    [KN_REFUSED_LIMIT] = "limit",     [KN_REFUSED_UDP] = "udp",         [KN_REFUSED_COOKIE] = "cookie",
    [KN_REFUSED_TOKEN] = "token",     [KN_REFUSED_REQUEST] = "request",
};

enum kn_refused kn_refused_by(enum kn_code code)
{
    switch (code) {
    case KN_E_AUTH: return KN_REFUSED_KEY;
    case KN_E_VERSION: return KN_REFUSED_VERSION;
    case KN_E_LIMIT: return KN_REFUSED_LIMIT;
    default: return KN_REFUSED_HELLO;
    }
}

json_t *kn_refusals_json(const struct kn_refusals *refusals)
{
    json_t *out = json_object();
    for (int i = 0; i < KN_REFUSED_COUNT; i++)
        kn_json_set(out, names[i], json_integer((json_int_t)atomic_load(&refusals->n[i])));
    return out;
}
