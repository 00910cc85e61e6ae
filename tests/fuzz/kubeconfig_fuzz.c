/* A kubeconfig of any bytes: read as YAML, which is written and read again and must be the same; resolved as a
 * kubeconfig; and taken for a file of certificates and keys, of which what is taken out must stay what it is. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kube/config.h"
#include "kube/pem.h"
#include "kube/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int truth)
{
    if (!truth)
        abort();
}

static void write_and_read(const json_t *value)
{
    struct kn_error err = {0};
    char *text = kn_yaml_emit(value, &err);
    if (!text)
        return; /* what YAML has no characters for */
    json_t *again = kn_yaml_parse(text, strlen(text), &err);
    demand(again != NULL);
    demand(json_is_null(value) ? json_array_size(again) == 0 : json_array_size(again) == 1);
    json_decref(again);
    free(text);
}

static void read_yaml(const char *text, size_t size)
{
    struct kn_error err = {0};
    size_t i;
    json_t *document, *documents = kn_yaml_parse(text, size, &err);
    json_array_foreach(documents, i, document) write_and_read(document);
    demand(documents || *err.message);
    json_decref(documents);
}

/* As a file: what it names beside itself is not there. */
static void resolve(const void *bytes, size_t size)
{
    char path[64];
    struct kn_error err = {0};
    int fd = memfd_create("kubeconfig", MFD_CLOEXEC);
    demand(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    json_t *config = kn_kube_config(&(struct kn_kube_options){.kubeconfig = path}, &err);
    demand(config ? json_string_value(json_object_get(config, "server")) != NULL : *err.message != 0);
    /* an authority or a key that is given is there, and is PEM */
    static const char *const keys[] = {"ca", "cert", "key"};
    for (size_t i = 0; config && i < 3; i++) {
        const char *pem = json_string_value(json_object_get(config, keys[i]));
        demand(!pem || strncmp(pem, "-----BEGIN ", 11) == 0);
    }
    json_decref(config);
    close(fd);
}

static void extract(enum kn_pem kind, const char *bytes, size_t size)
{
    struct kn_error err = {0};
    char *once = kn_pem_extract(kind, bytes, size, &err);
    if (!once)
        return;
    char *twice = kn_pem_extract(kind, once, strlen(once), &err);
    demand(twice && strcmp(once, twice) == 0);
    free(twice);
    free(once);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *bytes = malloc(size ? size : 1); /* of its own size, so that a read beyond it is seen */
    demand(bytes != NULL);
    memcpy(bytes, data, size);
    read_yaml(bytes, size);
    resolve(bytes, size);
    extract(KN_PEM_CERTIFICATE, bytes, size);
    extract(KN_PEM_KEY, bytes, size);
    free(bytes);
    return 0;
}
