#include "kube/pem.h"

#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define BEGIN "-----BEGIN "
#define END "-----END "
#define DASHES "-----"

/* "-----BEGIN LABEL-----", what is between, "-----END LABEL-----" */
struct block {
    const char *from, *to; /* all of it */
    const char *label, *body;
    size_t label_size, body_size;
};

static const char *find(const char *from, const char *to, const char *text)
{
    return memmem(from, (size_t)(to - from), text, strlen(text));
}

static bool closes(const struct block *b, const char *end, const char *to)
{
    const char *label = end + strlen(END), *dashes = label + b->label_size;
    return (size_t)(to - label) >= b->label_size + strlen(DASHES) && memcmp(label, b->label, b->label_size) == 0 &&
           memcmp(dashes, DASHES, strlen(DASHES)) == 0;
}

/* The next block from `at` on that begins a line and is closed. */
static bool next_block(const char *at, const char *to, struct block *b)
{
    for (const char *begin = at; (begin = find(begin, to, BEGIN)); begin += strlen(BEGIN)) {
        b->from = begin;
        b->label = begin + strlen(BEGIN);
        const char *dashes = find(b->label, to, DASHES);
        const char *end = dashes ? find(dashes + strlen(DASHES), to, END) : NULL;
        if (!end)
            return false;
        b->label_size = (size_t)(dashes - b->label);
        b->body = dashes + strlen(DASHES);
        b->body_size = (size_t)(end - b->body);
        b->to = end + strlen(END) + b->label_size + strlen(DASHES);
        if ((begin == at || begin[-1] == '\n') && b->label_size < 64 && closes(b, end, to))
            return true;
    }
    return false;
}

/* Headers ("Proc-Type: …") are those of an encrypted key, and no base64 either. libsodium ignores a zero byte, which
 * would end the text. `room`: for what is decoded, as long as the block. */
static bool is_base64(const struct block *b, char *room)
{
    size_t size = 0;
    if (memchr(b->from, '\0', (size_t)(b->to - b->from)))
        return false;
    return sodium_base642bin((unsigned char *)room, b->body_size + 1, b->body, b->body_size, " \t\r\n", &size, NULL,
                             sodium_base64_VARIANT_ORIGINAL) == 0 &&
           size > 0;
}

static bool label_is(const struct block *b, const char *text)
{
    return b->label_size == strlen(text) && memcmp(b->label, text, b->label_size) == 0;
}

static bool is_key(const struct block *b)
{
    static const char word[] = " PRIVATE KEY";
    size_t n = sizeof word - 1;
    return label_is(b, word + 1) || (b->label_size > n && memcmp(b->label + b->label_size - n, word, n) == 0);
}

static bool is_encrypted(const struct block *b)
{
    return label_is(b, "ENCRYPTED PRIVATE KEY") || find(b->body, b->body + b->body_size, "ENCRYPTED") != NULL;
}

static void append(char *text, size_t *size, const struct block *b)
{
    size_t n = (size_t)(b->to - b->from);
    memcpy(text + *size, b->from, n);
    text[*size + n] = '\n';
    *size += n + 1;
}

char *kn_pem_extract(enum kn_pem kind, const char *bytes, size_t size, struct kn_error *err)
{
    const char *at = bytes, *to = bytes + size;
    bool key = kind == KN_PEM_KEY, encrypted = false;
    char *text = malloc(2 * (size + 2)); /* a block ends in "\n" where its file does not; behind it, what is decoded */
    size_t used = 0;
    if (!text)
        return kn_null(kn_fail_memory(err));
    for (struct block b; next_block(at, to, &b) && !(key && used); at = b.to) {
        if (key && is_key(&b))
            encrypted = is_encrypted(&b);
        bool wanted = key ? is_key(&b) && !encrypted : label_is(&b, "CERTIFICATE");
        if (wanted && is_base64(&b, text + size + 2))
            append(text, &used, &b);
    }
    text[used] = '\0';
    if (used)
        return text;
    free(text);
    if (encrypted)
        kn_fail(err, KN_E_ARGUMENT, "its private key is encrypted; only a key without a passphrase can be used");
    else
        kn_fail(err, KN_E_ARGUMENT, "it contains no PEM %s", key ? "private key" : "certificate");
    return NULL;
}
