/* tests/kube/https - HTTPS as a server that misbehaves would speak it, for scripts: connections are taken one by one,
 * what goes over them is bytes, and they end as told: in order, or by a reset. The certificate is made here, for one
 * address. "plain" is the same without TLS.
 *
 *   https.listen(address [, port [, "plain"]]) -> listener, certificate as PEM
 *   listener:port()  listener:accept(seconds) -> connection | nil
 *   connection:read(seconds) -> bytes | nil  connection:write(bytes)  connection:close()  connection:reset() */
#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <lauxlib.h>
#include <lua.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LISTENER "https.listener"
#define CONNECTION "https.connection"

struct listener {
    int fd;
    bool plain;
    gnutls_certificate_credentials_t credentials;
};
struct connection {
    int fd;
    gnutls_session_t session; /* NULL: plain */
};

__attribute__((visibility("default"))) int luaopen_https(lua_State *L);

static int must(lua_State *L, int result, const char *what)
{
    return result < 0 ? luaL_error(L, "%s: %s", what, gnutls_strerror(result)) : result;
}

static bool readable(int fd, double seconds)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, (int)(seconds * 1000)) > 0;
}

/* ---- the certificate ------------------------------------------------------------------------- */

static void make_certificate(lua_State *L, const char *address, gnutls_x509_crt_t crt, gnutls_x509_privkey_t key)
{
    struct in_addr ip;
    time_t now = time(NULL);
    must(L, gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
         "a key");
    luaL_argcheck(L, inet_pton(AF_INET, address, &ip) == 1, 1, "an IPv4 address is wanted");
    must(L, gnutls_x509_crt_set_version(crt, 3), "version");
    must(L, gnutls_x509_crt_set_serial(crt, "\1", 1), "serial");
    must(L, gnutls_x509_crt_set_activation_time(crt, now - 3600), "activation");
    must(L, gnutls_x509_crt_set_expiration_time(crt, now + 86400), "expiration");
    must(L, gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, "faulty", 6), "name");
    must(L, gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, &ip, sizeof ip, GNUTLS_FSAN_SET),
         "address");
    must(L, gnutls_x509_crt_set_basic_constraints(crt, 1, -1), "constraints");
    must(L, gnutls_x509_crt_set_key(crt, key), "key");
    must(L, gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0), "signature");
}

/* Leaves the PEM on the stack. */
static void take_certificate(lua_State *L, const char *address, struct listener *l)
{
    gnutls_x509_crt_t crt;
    gnutls_x509_privkey_t key;
    gnutls_datum_t pem;
    must(L, gnutls_x509_crt_init(&crt), "certificate");
    must(L, gnutls_x509_privkey_init(&key), "key");
    make_certificate(L, address, crt, key);
    must(L, gnutls_certificate_allocate_credentials(&l->credentials), "credentials");
    must(L, gnutls_certificate_set_x509_key(l->credentials, &crt, 1, key), "credentials");
    must(L, gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem), "PEM");
    lua_pushlstring(L, (const char *)pem.data, pem.size);
    gnutls_free(pem.data);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}

/* ---- the listener ---------------------------------------------------------------------------- */

static int l_listen(lua_State *L)
{
    const char *address = luaL_checkstring(L, 1);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)luaL_optinteger(L, 2, 0))};
    struct listener *l = lua_newuserdatauv(L, sizeof *l, 0);
    *l = (struct listener){.fd = -1};
    luaL_setmetatable(L, LISTENER);
    luaL_argcheck(L, inet_pton(AF_INET, address, &a.sin_addr) == 1, 1, "an IPv4 address is wanted");
    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(l->fd, (struct sockaddr *)&a, sizeof a) || listen(l->fd, 16))
        return luaL_error(L, "listen on %s: %s", address, strerror(errno));
    l->plain = !lua_isnoneornil(L, 3);
    take_certificate(L, address, l);
    return 2;
}

static int l_port(lua_State *L)
{
    struct listener *l = luaL_checkudata(L, 1, LISTENER);
    struct sockaddr_in a;
    socklen_t size = sizeof a;
    getsockname(l->fd, (struct sockaddr *)&a, &size);
    lua_pushinteger(L, ntohs(a.sin_port));
    return 1;
}

static int listener_close(lua_State *L)
{
    struct listener *l = luaL_checkudata(L, 1, LISTENER);
    if (l->fd >= 0)
        close(l->fd);
    if (l->credentials)
        gnutls_certificate_free_credentials(l->credentials);
    *l = (struct listener){.fd = -1};
    return 0;
}

static void drop(struct connection *c)
{
    if (c->fd < 0)
        return;
    if (c->session)
        gnutls_deinit(c->session);
    close(c->fd);
    c->fd = -1;
}

static int greet(struct connection *c, struct listener *l)
{
    int result;
    gnutls_init(&c->session, GNUTLS_SERVER);
    gnutls_set_default_priority(c->session);
    gnutls_credentials_set(c->session, GNUTLS_CRD_CERTIFICATE, l->credentials);
    gnutls_handshake_set_timeout(c->session, 10000);
    gnutls_transport_set_int(c->session, c->fd);
    do
        result = gnutls_handshake(c->session);
    while (result < 0 && !gnutls_error_is_fatal(result));
    return result;
}

/* nil: no connection came, or the handshake failed. */
static int l_accept(lua_State *L)
{
    struct listener *l = luaL_checkudata(L, 1, LISTENER);
    int fd = readable(l->fd, luaL_checknumber(L, 2)) ? accept4(l->fd, NULL, NULL, SOCK_CLOEXEC) : -1;
    if (fd < 0)
        return lua_pushnil(L), 1;
    struct connection *c = lua_newuserdatauv(L, sizeof *c, 0);
    *c = (struct connection){.fd = fd};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); /* what was written is there before a reset */
    luaL_setmetatable(L, CONNECTION);
    if (!l->plain && greet(c, l) < 0) {
        drop(c);
        lua_pushnil(L);
    }
    return 1;
}

/* ---- connections ----------------------------------------------------------------------------- */

static struct connection *check_connection(lua_State *L)
{
    struct connection *c = luaL_checkudata(L, 1, CONNECTION);
    luaL_argcheck(L, c->fd >= 0, 1, "it is closed");
    return c;
}

static int l_read(lua_State *L)
{
    struct connection *c = check_connection(L);
    char bytes[4096];
    if ((!c->session || gnutls_record_check_pending(c->session) == 0) && !readable(c->fd, luaL_checknumber(L, 2)))
        return lua_pushnil(L), 1;
    ssize_t n = c->session ? gnutls_record_recv(c->session, bytes, sizeof bytes) : recv(c->fd, bytes, sizeof bytes, 0);
    if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
        n = 0;
    if (n > 0)
        lua_pushlstring(L, bytes, (size_t)n);
    else
        lua_pushnil(L);
    return 1;
}

static int l_write(lua_State *L)
{
    struct connection *c = check_connection(L);
    size_t size, done = 0;
    const char *bytes = luaL_checklstring(L, 2, &size);
    while (done < size) {
        ssize_t n = c->session ? gnutls_record_send(c->session, bytes + done, size - done)
                               : send(c->fd, bytes + done, size - done, MSG_NOSIGNAL);
        if (n < 0 && (!c->session || gnutls_error_is_fatal((int)n)))
            break;
        done += n > 0 ? (size_t)n : 0;
    }
    lua_pushboolean(L, done == size);
    return 1;
}

static int l_close(lua_State *L)
{
    struct connection *c = luaL_checkudata(L, 1, CONNECTION);
    if (c->fd >= 0 && c->session)
        gnutls_bye(c->session, GNUTLS_SHUT_WR);
    drop(c);
    return 0;
}

static int l_reset(lua_State *L)
{
    struct connection *c = luaL_checkudata(L, 1, CONNECTION);
    if (c->fd >= 0)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    drop(c);
    return 0;
}

static void make_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc)
{
    luaL_newmetatable(L, name);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}

int luaopen_https(lua_State *L)
{
    static const luaL_Reg listener[] = {
        {"port", l_port}, {"accept", l_accept}, {"close", listener_close}, {NULL, NULL}};
    static const luaL_Reg connection[] = {
        {"read", l_read}, {"write", l_write}, {"close", l_close}, {"reset", l_reset}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"listen", l_listen}, {NULL, NULL}};
    make_class(L, LISTENER, listener, listener_close);
    make_class(L, CONNECTION, connection, l_reset);
    luaL_newlib(L, functions);
    return 1;
}
