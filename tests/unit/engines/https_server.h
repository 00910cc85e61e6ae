/* A server of HTTP/1.1 and HTTP/2, in clear text or over TLS with a certificate that it makes for 127.0.0.1. It answers
 * each request with status 200 and an empty body, one connection after another. */
#ifndef TESTS_HTTPS_SERVER_H
#define TESTS_HTTPS_SERVER_H

#include <netinet/in.h>
#include <nghttp2/nghttp2.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct https_server {
    int listener;
    uint16_t port;
    SSL_CTX *ctx; /* NULL: clear text */
    char pem[4096];
    pthread_t thread;
};

struct https_visit {
    int fd;
    SSL *ssl;
};

static ssize_t visit_read(struct https_visit *v, void *bytes, size_t size)
{
    return v->ssl ? SSL_read(v->ssl, bytes, (int)size) : recv(v->fd, bytes, size, 0);
}

static ssize_t visit_write(struct https_visit *v, const void *bytes, size_t size)
{
    return v->ssl ? SSL_write(v->ssl, bytes, (int)size) : send(v->fd, bytes, size, MSG_NOSIGNAL);
}

/* ---- the two protocols ---- */

static void serve_http_1(struct https_visit *v, char *text, size_t n)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for (ssize_t more = (ssize_t)n; more > 0;) {
        if (memmem(text, (size_t)more, "\r\n\r\n", 4) && visit_write(v, answer, sizeof answer - 1) <= 0)
            return;
        more = visit_read(v, text, 4096);
    }
}

static int answer_request(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    static const nghttp2_nv status = {(uint8_t *)(uintptr_t) ":status", (uint8_t *)(uintptr_t) "200", 7, 3, 0};
    (void)user;
    return frame->hd.type == NGHTTP2_HEADERS ? nghttp2_submit_response(session, frame->hd.stream_id, &status, 1, NULL)
                                             : 0;
}

static bool send_frames(struct https_visit *v, nghttp2_session *session)
{
    const uint8_t *bytes;
    for (ssize_t n; (n = nghttp2_session_mem_send(session, &bytes)) > 0;)
        if (visit_write(v, bytes, (size_t)n) <= 0)
            return false;
    return true;
}

static void serve_http_2(struct https_visit *v, uint8_t *bytes, size_t n)
{
    nghttp2_session *session;
    nghttp2_session_callbacks *callbacks;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, answer_request);
    nghttp2_session_server_new(&session, callbacks, NULL);
    nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, NULL, 0);
    for (ssize_t more = (ssize_t)n; more > 0; more = visit_read(v, bytes, 4096))
        if (nghttp2_session_mem_recv(session, bytes, (size_t)more) < 0 || !send_frames(v, session))
            break;
    nghttp2_session_del(session);
    nghttp2_session_callbacks_del(callbacks);
}

static void serve_visit(struct https_visit *v)
{
    char bytes[4096];
    ssize_t n = visit_read(v, bytes, sizeof bytes);
    if (n >= 3 && !memcmp(bytes, "PRI", 3))
        serve_http_2(v, (uint8_t *)bytes, (size_t)n);
    else if (n > 0)
        serve_http_1(v, bytes, (size_t)n);
}

/* ---- the server ---- */

static int choose_protocol(SSL *ssl, const uint8_t **out, uint8_t *size, const uint8_t *offered, unsigned n, void *arg)
{
    (void)ssl, (void)n, (void)arg;
    *out = offered + 1;
    *size = offered[0];
    return SSL_TLSEXT_ERR_OK;
}

static void *https_serve(void *arg)
{
    struct https_server *s = arg;
    starved_fed = true;
    for (struct https_visit v; (v.fd = accept(s->listener, NULL, NULL)) >= 0; close(v.fd)) {
        v.ssl = s->ctx ? SSL_new(s->ctx) : NULL;
        if (v.ssl)
            SSL_set_fd(v.ssl, v.fd);
        if (!v.ssl || SSL_accept(v.ssl) == 1)
            serve_visit(&v);
        SSL_free(v.ssl);
    }
    return NULL;
}

static void certify(struct https_server *s)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "IP:127.0.0.1");
    BIO *text = BIO_new(BIO_s_mem());
    X509_set_version(certificate, 2);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC, (const uint8_t *)"test", -1, -1,
                               0);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    X509_set_pubkey(certificate, key);
    X509_add_ext(certificate, names, -1);
    X509_sign(certificate, key, EVP_sha256());
    SSL_CTX_use_certificate(s->ctx, certificate);
    SSL_CTX_use_PrivateKey(s->ctx, key);
    PEM_write_bio_X509(text, certificate);
    s->pem[BIO_read(text, s->pem, sizeof s->pem - 1)] = '\0';
    BIO_free(text);
    X509_EXTENSION_free(names);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void https_start(struct https_server *s, bool tls)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    *s = (struct https_server){.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (tls) {
        s->ctx = SSL_CTX_new(TLS_server_method());
        SSL_CTX_set_alpn_select_cb(s->ctx, choose_protocol, NULL);
        certify(s);
    }
    if (bind(s->listener, (struct sockaddr *)&at, size) || listen(s->listener, 16) ||
        getsockname(s->listener, (struct sockaddr *)&at, &size) || pthread_create(&s->thread, NULL, https_serve, s))
        fail_msg("no server of HTTPS");
    s->port = ntohs(at.sin_port);
}

static void https_stop(struct https_server *s)
{
    shutdown(s->listener, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->listener);
    SSL_CTX_free(s->ctx);
}

#endif
