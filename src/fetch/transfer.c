/* fetch/transfer - one libcurl transfer: its options, its callbacks, the wait. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/clock.h"
#include "fetch/transfer.h"

#define DEFAULT_MAX_BODY ((size_t)64 << 20)
#define MAX_HEAD ((size_t)256 << 10)

static void move_to_front(struct kn_buffer *b)
{
    memmove(b->memory, b->bytes, b->size + 1);
    b->bytes = b->memory;
}

int kn_buffer_add(struct kn_buffer *b, const void *bytes, size_t n)
{
    size_t dead = (size_t)(b->bytes - b->memory);
    if (dead + b->size + n + 1 > b->room) {
        size_t room = (dead + b->size + n + 1) * 2;
        char *grown = realloc(b->memory, room);
        if (!grown)
            return -1;
        b->memory = grown;
        b->bytes = grown + dead;
        b->room = room;
    }
    memcpy(b->bytes + b->size, bytes, n);
    b->size += n;
    b->bytes[b->size] = 0;
    return 0;
}

void kn_buffer_drop(struct kn_buffer *b, size_t n)
{
    b->bytes += n;
    b->size -= n;
    if ((size_t)(b->bytes - b->memory) > b->size)
        move_to_front(b);
}

char *kn_buffer_take(struct kn_buffer *b)
{
    if (kn_buffer_add(b, "", 0) < 0)
        return NULL;
    move_to_front(b);
    char *taken = b->memory;
    *b = (struct kn_buffer){0};
    return taken;
}

/* ---- callbacks ------------------------------------------------------------------------------- */

/* "Content-Type: x\r\n" becomes "content-type: x\n". A new status line (after 100-continue, after a proxy's CONNECT)
 * starts the head anew. */
static size_t on_header(char *line, size_t one, size_t n, void *data)
{
    struct kn_transfer *t = data;
    (void)one;
    size_t length = n;
    while (length && (line[length - 1] == '\r' || line[length - 1] == '\n'))
        length--;
    if (length >= 5 && strncmp(line, "HTTP/", 5) == 0) {
        t->head.size = 0;
        t->head_done = false;
        return n;
    }
    if (!length) { /* the end, unless it was an interim answer's */
        long status = 0;
        curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
        t->head_done = status >= 200;
        return n;
    }
    if (t->head.size + length > MAX_HEAD)
        return 0;
    size_t at = t->head.size;
    if (kn_buffer_add(&t->head, line, length) < 0 || kn_buffer_add(&t->head, "\n", 1) < 0)
        return 0;
    for (char *c = t->head.bytes + at; *c != ':' && *c != '\n'; c++)
        *c = (char)tolower((unsigned char)*c);
    return n;
}

static size_t on_body(char *bytes, size_t one, size_t n, void *data)
{
    struct kn_transfer *t = data;
    (void)one;
    t->head_done = true;
    if (t->pause_at && t->body.size >= t->pause_at) {
        t->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    t->too_large = !t->pause_at && t->body.size + n > t->max_body;
    return t->too_large || kn_buffer_add(&t->body, bytes, n) < 0 ? 0 : n;
}

/* ---- options --------------------------------------------------------------------------------- */

/* PEM text goes in as a blob, never to a file; anything else is a path. An option that libcurl does not take must not
 * pass for one that was not set: the system's authorities would be trusted in its place. */
static int set_pem(CURL *easy, const char *what, const char *value, CURLoption blob_option, CURLoption path_option,
                   struct kn_error *err)
{
    CURLcode bad = CURLE_OK;
    if (value && !*value)
        return kn_fail(err, KN_E_ARGUMENT, "%s must be PEM text or a file's path, got an empty string", what);
    if (value && strstr(value, "-----BEGIN")) {
        struct curl_blob blob = {.data = (void *)(uintptr_t)value, .len = strlen(value), .flags = CURL_BLOB_COPY};
        bad = curl_easy_setopt(easy, blob_option, &blob);
    } else if (value) {
        bad = curl_easy_setopt(easy, path_option, value);
    }
    return bad ? kn_fail(err, KN_E_UNSUPPORTED, "%s cannot be used: %s", what, curl_easy_strerror(bad)) : 0;
}

static int set_tls(CURL *easy, const struct kn_fetch_request *r, struct kn_error *err)
{
    if (set_pem(easy, "ca", r->ca, CURLOPT_CAINFO_BLOB, CURLOPT_CAINFO, err) < 0 ||
        set_pem(easy, "cert", r->cert, CURLOPT_SSLCERT_BLOB, CURLOPT_SSLCERT, err) < 0 ||
        set_pem(easy, "key", r->key, CURLOPT_SSLKEY_BLOB, CURLOPT_SSLKEY, err) < 0)
        return -1;
    if (r->ca) /* libcurl adds the system's folder of authorities to the ones that are given */
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    if (r->insecure) {
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    return 0;
}

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    return strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 || strcmp(host, "::1") == 0 ||
           (inet_pton(AF_INET, host, &v4) == 1 && (ntohl(v4.s_addr) >> 24) == 127);
}

/* libcurl checks the certificate against the URL's host. So that another name is checked, the URL takes that name, and
 * the connection still goes to the host that was asked for, with its own Host header. */
static int set_server_name(struct kn_transfer *t, CURLU *url, const char *host, const struct kn_fetch_request *r)
{
    char *port = NULL, text[1024];
    if (curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT))
        return -1;
    snprintf(text, sizeof text, "%s:%s:%s:%s", r->server_name, port, host, port);
    t->connect_to = curl_slist_append(NULL, text);
    snprintf(text, sizeof text, "Host: %s:%s", host, port);
    struct curl_slist *headers = curl_slist_append(t->headers, text);
    curl_free(port);
    if (headers)
        t->headers = headers;
    if (!headers || !t->connect_to || curl_url_set(url, CURLUPART_HOST, r->server_name, 0))
        return -1;
    curl_easy_setopt(t->easy, CURLOPT_CONNECT_TO, t->connect_to);
    return 0;
}

static int set_url(struct kn_transfer *t, const struct kn_fetch_request *r, struct kn_error *err)
{
    CURLU *url = curl_url();
    char *host = NULL, *whole = NULL;
    if (!url)
        return kn_fail_memory(err);
    CURLUcode bad = curl_url_set(url, CURLUPART_URL, r->url, 0);
    if (!bad)
        bad = curl_url_get(url, CURLUPART_HOST, &host, 0);
    if (!bad && r->server_name && set_server_name(t, url, host, r) < 0)
        bad = CURLUE_BAD_HOSTNAME;
    if (!bad)
        bad = curl_url_get(url, CURLUPART_URL, &whole, 0);
    if (!bad) {
        curl_easy_setopt(t->easy, CURLOPT_URL, whole);
        if (r->proxy || r->unix_path || is_loopback(host))
            curl_easy_setopt(t->easy, CURLOPT_PROXY, r->proxy ? r->proxy : "");
    }
    curl_free(whole);
    curl_free(host);
    curl_url_cleanup(url);
    if (bad)
        return kn_fail(err, KN_E_ARGUMENT, "invalid URL '%s': %s", r->url, curl_url_strerror(bad));
    return 0;
}

static void set_unix(CURL *easy, const char *path)
{
    if (path && *path == '@')
        curl_easy_setopt(easy, CURLOPT_ABSTRACT_UNIX_SOCKET, path + 1);
    else if (path)
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, path);
}

static int set_headers(struct kn_transfer *t, const struct kn_fetch_request *r, struct kn_error *err)
{
    for (const char *const *h = r->headers; h && *h; h++) {
        if (strpbrk(*h, "\r\n"))
            return kn_fail(err, KN_E_ARGUMENT, "a header contains a line break");
        struct curl_slist *more = curl_slist_append(t->headers, *h);
        if (!more)
            return kn_fail_memory(err);
        t->headers = more;
    }
    /* no Expect: 100-continue: it costs a round trip, and a second where the peer ignores it */
    struct curl_slist *more = curl_slist_append(t->headers, "Expect:");
    if (!more)
        return kn_fail_memory(err);
    t->headers = more;
    return 0;
}

static void set_method(CURL *easy, const struct kn_fetch_request *r)
{
    if (r->body) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_size);
        curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, (const char *)r->body);
    }
    if (r->method && strcmp(r->method, "HEAD") == 0)
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    else if (r->method)
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, r->method);
}

static void set_callbacks(struct kn_transfer *t, CURL *easy)
{
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->detail);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
}

int kn_transfer_start(struct kn_transfer *t, CURLM *multi, CURL *easy, const struct kn_fetch_request *r,
                      struct kn_error *err)
{
    uint64_t connect_ns = r->connect_timeout_ns ? r->connect_timeout_ns : 5 * KN_NS_PER_S;
    t->multi = multi;
    t->easy = easy;
    t->wake_fd = r->wake_fd;
    t->max_body = r->max_body ? r->max_body : DEFAULT_MAX_BODY;
    curl_easy_reset(easy);
    set_callbacks(t, easy);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(connect_ns / KN_NS_PER_MS + 1));
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, r->http1 ? (long)CURL_HTTP_VERSION_1_1 : (long)CURL_HTTP_VERSION_2TLS);
    set_unix(easy, r->unix_path);
    set_method(easy, r);
    if (set_tls(easy, r, err) < 0 || set_headers(t, r, err) < 0 || set_url(t, r, err) < 0)
        return -1;
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, t->headers);
    if (curl_multi_add_handle(multi, easy) != CURLM_OK)
        return kn_fail(err, KN_E_MEMORY, "libcurl cannot start another transfer");
    return 0;
}

/* ---- the wait -------------------------------------------------------------------------------- */

static void take_result(struct kn_transfer *t)
{
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(t->multi, &left));)
        if (m->msg == CURLMSG_DONE && m->easy_handle == t->easy) {
            t->over = true;
            t->result = m->data.result;
        }
}

/* Milliseconds to the deadline, rounded up; at most a minute, for the sake of an int. */
static int left_ms(uint64_t deadline_ns, uint64_t now_ns)
{
    uint64_t ms = deadline_ns ? (deadline_ns - now_ns + KN_NS_PER_MS - 1) / KN_NS_PER_MS : 60000;
    return ms < 60000 ? (int)ms : 60000;
}

int kn_transfer_drive(struct kn_transfer *t, kn_transfer_test *done, uint64_t deadline_ns, struct kn_error *err)
{
    struct curl_waitfd wake = {.fd = t->wake_fd, .events = CURL_WAIT_POLLIN};
    for (;;) {
        int running;
        if (curl_multi_perform(t->multi, &running) != CURLM_OK)
            return kn_fail(err, KN_E_SYSTEM, "libcurl failed to drive a transfer");
        take_result(t);
        if (t->over || done(t))
            return 0;
        uint64_t now_ns = kn_now_ns();
        if (deadline_ns && now_ns >= deadline_ns)
            return kn_fail(err, KN_E_TIMEOUT, "no response in time");
        wake.revents = 0;
        bool alone = t->wake_fd < 0;
        curl_multi_poll(t->multi, alone ? NULL : &wake, alone ? 0 : 1, left_ms(deadline_ns, now_ns), NULL);
        if (wake.revents)
            return kn_fail(err, KN_E_INTERRUPTED, "interrupted");
    }
}

int kn_transfer_status(const struct kn_transfer *t)
{
    long status = 0;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    return (int)status;
}

static enum kn_code code_of(const struct kn_transfer *t)
{
    long sys = 0;
    double connected_s = 0;
    switch (t->result) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY: return KN_E_RESOLVE;
    case CURLE_OPERATION_TIMEDOUT: return KN_E_TIMEOUT;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE: return KN_E_AUTH;
    case CURLE_OUT_OF_MEMORY: return KN_E_MEMORY;
    case CURLE_URL_MALFORMAT: return KN_E_ARGUMENT;
    case CURLE_UNSUPPORTED_PROTOCOL: /* of the URL; or a server that answered, with something else than HTTP */
        curl_easy_getinfo(t->easy, CURLINFO_CONNECT_TIME, &connected_s);
        return connected_s > 0 ? KN_E_PROTOCOL : KN_E_ARGUMENT;
    case CURLE_COULDNT_CONNECT:
        curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &sys);
        if (sys == EACCES || sys == EPERM)
            return KN_E_PERMISSION;
        return sys == EHOSTUNREACH || sys == ENETUNREACH ? KN_E_UNREACHABLE : KN_E_REFUSED;
    default: return KN_E_PROTOCOL;
    }
}

int kn_transfer_failed(const struct kn_transfer *t, struct kn_error *err)
{
    if (t->too_large)
        return kn_fail(err, KN_E_LIMIT, "the response is longer than %zu bytes", t->max_body);
    return kn_fail(err, code_of(t), "%s", *t->detail ? t->detail : curl_easy_strerror(t->result));
}

void kn_transfer_end(struct kn_transfer *t)
{
    if (t->multi && t->easy)
        curl_multi_remove_handle(t->multi, t->easy);
    curl_slist_free_all(t->headers);
    curl_slist_free_all(t->connect_to);
    free(t->head.memory);
    free(t->body.memory);
    *t = (struct kn_transfer){.wake_fd = -1};
}
