#include "lab/keeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/units.h"

/* Lookups in the keeper's tables of nodes, pods and Services, which share one space of names. */

struct kn_lab_node *kn_lab_node_find(struct kn_lab_keeper *keeper, const char *name)
{
    struct kn_lab_node *node = keeper->nodes;
    while (node && strcmp(node->name, name) != 0)
        node = node->next;
    return node;
}

struct kn_lab_pod *kn_lab_pod_find(struct kn_lab_keeper *keeper, const char *name)
{
    struct kn_lab_pod *pod = keeper->pods;
    while (pod && strcmp(pod->name, name) != 0)
        pod = pod->next;
    return pod;
}

struct kn_lab_service *kn_lab_service_find(struct kn_lab_keeper *keeper, const char *name)
{
    struct kn_lab_service *service = keeper->services;
    while (service && strcmp(service->name, name) != 0)
        service = service->next;
    return service;
}

const char *kn_lab_name_near(struct kn_lab_keeper *keeper, const char *word, bool pods, bool services)
{
    static const size_t most = LAB_NODES_MAX + LAB_PODS_MAX + LAB_SERVICES_MAX;
    const char **names = malloc(most * sizeof *names), *near = NULL;
    size_t n = 0;
    if (!names)
        return NULL;
    for (struct kn_lab_node *node = keeper->nodes; node; node = node->next)
        names[n++] = node->name;
    for (struct kn_lab_pod *pod = keeper->pods; pods && pod; pod = pod->next)
        names[n++] = pod->name;
    for (struct kn_lab_service *service = keeper->services; services && service; service = service->next)
        names[n++] = service->name;
    near = kn_nearest(word, names, n);
    free(names);
    return near;
}

static bool taken(struct kn_lab_keeper *keeper, const char *name)
{
    return kn_lab_node_find(keeper, name) || kn_lab_pod_find(keeper, name) || kn_lab_service_find(keeper, name) ||
           kn_lab_policy_find(keeper, name);
}

int kn_lab_name_take(struct kn_lab_keeper *keeper, const json_t *request, const char *kind, char name[LAB_NAME_MAX + 1],
                     struct kn_error *err)
{
    const char *asked = json_string_value(json_object_get(request, "name"));
    if (asked) {
        if (kn_lab_name_check(asked, err))
            return -1;
        if (taken(keeper, asked))
            return kn_fail(err, KN_E_IN_USE, "the name '%s' is in use", asked);
        snprintf(name, LAB_NAME_MAX + 1, "%s", asked);
        return 0;
    }
    for (unsigned i = 1;; i++) {
        snprintf(name, LAB_NAME_MAX + 1, "%s-%u", kind, i);
        if (!taken(keeper, name))
            return 0;
    }
}

int kn_lab_service_free_of(const struct kn_lab_keeper *keeper, const void *owner, const char *name,
                           struct kn_error *err)
{
    for (const struct kn_lab_service *service = keeper->services; service; service = service->next)
        for (size_t i = 0; i < service->n_endpoints; i++)
            if (service->endpoints[i].owner == owner)
                return kn_fail(err, KN_E_IN_USE, "'%s' is an endpoint of Service '%s'", name, service->name);
    return 0;
}
