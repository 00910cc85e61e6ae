/* What the http test's result has of its own: like ab, of TLS, of HTTP/2. */
#include "core/json.h"
#include "engines/http/conn.h"
#include "run/result.h"

/* What ab calls failed, and its two times per request: of one of the connections, and across all of them. */
static void put_like_ab(json_t *m, const struct kn_view *v)
{
    const struct kn_figures *f = &v->client;
    json_t *failed = json_object(), *each = json_object();
    kn_put_int(failed, "connect", f->connect_errors);
    kn_put_int(failed, "receive", f->errors - f->bad_responses);
    kn_put_int(failed, "length", f->length_mismatch);
    kn_put_int(failed, "exceptions", f->bad_responses + f->timeouts);
    kn_json_set(m, "failed", failed);
    kn_put_int(m, "non_2xx", v->ops - f->status[2]);
    kn_put_ratio(each, "mean", (double)v->window_ns * (double)v->spec->flows, (double)v->ops);
    kn_put_ratio(each, "across_all", (double)v->window_ns, (double)v->ops);
    if (v->ops)
        kn_json_set(m, "time_per_request_ns", json_incref(each));
    json_decref(each);
}

static void put_tls(json_t *m, const struct kn_view *v)
{
    const uint64_t *own = v->client.own;
    if (!kn_http_tls(v->spec))
        return;
    json_t *tls = json_object(), *failures = json_object();
    kn_put_int(tls, "handshakes", own[KN_HTTP_HANDSHAKES]);
    kn_put_int(tls, "resumed", own[KN_HTTP_RESUMED]);
    kn_json_set(tls, "verified", json_boolean(v->spec->own[KN_HTTP_VERIFY]));
    for (int i = 0; i < KN_TLS_FAULTS; i++)
        if (own[KN_HTTP_FAULTS + i])
            kn_put_int(failures, kn_tls_fault_names[i], own[KN_HTTP_FAULTS + i]);
    kn_json_set(tls, "failures", failures);
    kn_json_set(m, "tls", tls);
}

static void put_http2(json_t *m, const struct kn_view *v)
{
    if (!v->spec->own[KN_HTTP_VERSION_2])
        return;
    json_t *http2 = json_object();
    kn_put_int(http2, "goaways", v->client.own[KN_HTTP_GOAWAYS]);
    kn_put_int(http2, "refused", v->client.own[KN_HTTP_REFUSED]);
    kn_json_set(m, "http2", http2);
}

void kn_http_metrics(const struct kn_view *v, json_t *m)
{
    static const char *const names[6] = {"other", "1xx", "2xx", "3xx", "4xx", "5xx"};
    if (!(v->client.has & KN_HAS_HTTP))
        return;
    json_t *status = json_object();
    for (int i = 0; i < 6; i++)
        if (v->client.status[i])
            kn_put_int(status, names[i], v->client.status[i]);
    kn_json_set(m, "status", status);
    put_like_ab(m, v);
    put_tls(m, v);
    put_http2(m, v);
    kn_put_int(m, "length_mismatches", v->client.length_mismatch);
    kn_put_int(m, "bad_responses", v->client.bad_responses);
    kn_put_int(m, "header_bytes", v->client.header_bytes);
    kn_put_ratio(m, "transfer_bps", 8.0 * (double)(v->client.rx_bytes + v->client.header_bytes),
                 kn_seconds(v->window_ns));
}
