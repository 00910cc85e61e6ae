#include "agent/admit.h"

#include <stdio.h>
#include <string.h>

int kn_admit_hello(const struct kn_shared *shared, const struct kn_hello *hello, bool udp, struct kn_error *err)
{
    const struct kn_test *test = hello->spec.test;
    bool served = test->serve || test->serve_once;
    bool fits = test->both || udp == (kn_spec_transport(&hello->spec) == KN_UDP);
    if (hello->kind == KN_HELLO_STATS && !udp)
        return 0;
    if (!fits || !served || hello->kind != KN_HELLO_FLOW)
        return kn_fail(err, KN_E_ARGUMENT, "an agent does not serve %s over %s", test->name, udp ? "UDP" : "TCP");
    return kn_server_allows(&shared->server.limits, &hello->spec, err);
}

void kn_admit_refusal(struct kn_shared *shared, const struct kn_error *why, struct kn_welcome *w)
{
    kn_refuse(&shared->refused, kn_refused_by(why->code));
    memset(w, 0, sizeof *w);
    w->protocol = KN_PROTOCOL;
    w->code = (uint8_t)why->code;
    memcpy(w->name, shared->server.me.name, sizeof w->name);
    memcpy(w->node, shared->server.me.node, sizeof w->node);
    snprintf(w->message, sizeof w->message, "%.*s", (int)sizeof w->message - 1, why->message);
}
