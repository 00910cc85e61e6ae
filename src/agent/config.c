#include "agent/config.h"

#include <string.h>

#include "core/clock.h"

void kn_agent_defaults(struct kn_agent_config *config)
{
    memset(config, 0, sizeof *config);
    config->max_duration_ns = 3600 * KN_NS_PER_S;
    config->max_runs = 64;
    config->orphan_ns = 30 * KN_NS_PER_S;
    config->hello_ns = 5 * KN_NS_PER_S;
}

int kn_agent_listen(const char *text, struct kn_addr *out, struct kn_error *err)
{
    char host[256];
    uint16_t port = KN_DEFAULT_PORT;
    if (kn_addr_split(text, host, sizeof host, &port, err) < 0)
        return -1;
    if (*text && strspn(text, "0123456789") == strlen(text)) /* which is an address too: 0.0.36.249 */
        return kn_fail(err, KN_E_ARGUMENT, "\"%s\" has no colon; expected [ADDRESS]:PORT, as in \":%s\"", text, text);
    return kn_addr_resolve(host, port, 0, 5 * KN_NS_PER_S, out, err);
}
