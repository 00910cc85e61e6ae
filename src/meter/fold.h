/* meter/fold - folds counted stacks into a tree of bounded size. For the meter's own files and their tests. */
#ifndef KN_METER_FOLD_H
#define KN_METER_FOLD_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

#define KN_FOLD_FRAMES 16384u /* different functions */
#define KN_FOLD_NODES 65536u  /* while it is filled */
#define KN_FOLD_KEEP 4096u    /* in the result */

struct kn_fold;
struct kn_fold *kn_fold_new(struct kn_error *err);
void kn_fold_free(struct kn_fold *fold); /* takes NULL */
/* The number of a frame's name, from 1; 0: too many different names. Kind: 'p', 'k' or 'u'. */
uint32_t kn_fold_frame(struct kn_fold *fold, char kind, const char *name);
/* The same for a place that has no name yet: an offset in something. */
uint32_t kn_fold_place(struct kn_fold *fold, void *in, uint64_t offset);
/* Returns a copy with a name for every place; NULL: out of memory. Consecutive frames without a name of their own
 * (which begins with "[") become one. */
struct kn_fold *kn_fold_named(const struct kn_fold *fold, const char *(*name_of)(void *in, uint64_t offset),
                              struct kn_error *err);
/* Adds `weight` to a stack of frames, the outermost first. Without room for more nodes the stack is cut. */
void kn_fold_add(struct kn_fold *fold, const uint32_t *frames, size_t n, double weight);
/* Adds "frames", "kinds", "parents", "names", "counts" and "cut" (see meter/stacks.h); counts are weight * scale. */
int kn_fold_json(struct kn_fold *fold, double scale, size_t keep, json_t *into);

#endif
