#include "kube/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "core/json.h"

#define DEPTH_MAX 100
#define COST_MAX 1000000 /* a value costs 1, and a string 1 more for every COST_BYTES of it */
#define COST_BYTES 64

struct reader {
    yaml_parser_t parser;
    json_t *anchors; /* name -> value, shared with the document: a value is complete before it gets its name */
    size_t cost;     /* of what was made so far, copies of aliases included */
    struct kn_error *err;
};

/* ---- text to values -------------------------------------------------------------------------------------------------
 */

static int fail_at(struct reader *r, const yaml_mark_t *mark, const char *what)
{
    return kn_fail(r->err, KN_E_ARGUMENT, "YAML, line %zu, column %zu: %s", mark->line + 1, mark->column + 1, what);
}

static int next_event(struct reader *r, yaml_event_t *event)
{
    if (yaml_parser_parse(&r->parser, event))
        return 0;
    return fail_at(r, &r->parser.problem_mark, r->parser.problem ? r->parser.problem : "cannot be parsed");
}

static bool one_of(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (!strcmp(text, *words))
            return true;
    return false;
}

/* Returns false if it is not a number. */
static bool number_value(const char *text, json_t **value)
{
    char *end;
    errno = 0;
    long long whole = strtoll(text, &end, text[0] == '0' && (text[1] == 'x' || text[1] == 'o') ? 0 : 10);
    if (end != text && !*end && errno == 0) {
        *value = json_integer(whole);
        return true;
    }
    if (strspn(text, "+-.0123456789eE") != strlen(text) || !strpbrk(text, "0123456789"))
        return false;
    double real = strtod(text, &end);
    bool number = end != text && !*end && isfinite(real);
    if (number)
        *value = json_real(real);
    return number;
}

/* What a plain scalar means. */
static json_t *plain_value(const char *text)
{
    static const char *const nothing[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const yes[] = {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", NULL};
    static const char *const no[] = {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", NULL};
    if (one_of(text, nothing))
        return json_null();
    if (one_of(text, yes))
        return json_true();
    if (one_of(text, no))
        return json_false();
    json_t *number;
    return number_value(text, &number) ? number : json_string(text);
}

static json_t *scalar_value(struct reader *r, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    if (strlen(text) != event->data.scalar.length) {
        fail_at(r, &event->start_mark, "a value contains a NUL character");
        return NULL;
    }
    const char *tag = (const char *)event->data.scalar.tag;
    json_t *value = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !tag ? plain_value(text) : json_string(text);
    if (!value)
        fail_at(r, &event->start_mark, "not UTF-8");
    return value;
}

static json_t *read_value(struct reader *r, const yaml_event_t *event, unsigned depth);

static json_t *read_sequence(struct reader *r, unsigned depth)
{
    json_t *list = json_array();
    kn_json_note(list);
    for (;;) {
        yaml_event_t event;
        if (next_event(r, &event))
            break;
        bool end = event.type == YAML_SEQUENCE_END_EVENT;
        json_t *value = end ? NULL : read_value(r, &event, depth + 1);
        yaml_event_delete(&event);
        if (end)
            return list;
        if (!value)
            break;
        kn_json_append(list, value);
    }
    json_decref(list);
    return NULL;
}

static void add_missing(json_t *map, const json_t *from)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)from, key, value) if (!json_object_get(map, key))
        kn_json_set(map, key, json_incref(value));
}

/* "<<": the keys of another mapping (or several), which those written here override. */
static void merge_into(json_t *map, const json_t *from)
{
    size_t i;
    json_t *one;
    if (json_is_object(from))
        add_missing(map, from);
    json_array_foreach((json_t *)from, i, one) if (json_is_object(one)) add_missing(map, one);
}

static json_t *read_mapping(struct reader *r, unsigned depth)
{
    json_t *map = json_object(), *merge = NULL;
    kn_json_note(map);
    for (;;) {
        yaml_event_t key, value;
        if (next_event(r, &key))
            break;
        if (key.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&key);
            if (merge)
                merge_into(map, merge);
            json_decref(merge);
            return map;
        }
        if (key.type != YAML_SCALAR_EVENT) {
            fail_at(r, &key.start_mark, "a key must be a scalar");
            yaml_event_delete(&key);
            break;
        }
        if (next_event(r, &value)) {
            yaml_event_delete(&key);
            break;
        }
        json_t *v = read_value(r, &value, depth + 1);
        const char *name = (const char *)key.data.scalar.value;
        bool ok = v != NULL;
        if (ok && !strcmp(name, "<<") && key.data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
            json_decref(merge);
            merge = v;
        } else if (ok && json_object_set_new(map, name, v)) {
            fail_at(r, &key.start_mark, "not UTF-8");
            ok = false;
        }
        yaml_event_delete(&value);
        yaml_event_delete(&key);
        if (!ok)
            break;
    }
    json_decref(merge);
    json_decref(map);
    return NULL;
}

static size_t cost_of(const json_t *value)
{
    size_t cost = 1 + json_string_length(value) / COST_BYTES, i;
    const char *key;
    json_t *child;
    json_array_foreach((json_t *)value, i, child) cost += cost_of(child);
    json_object_foreach((json_t *)value, key, child) cost += strlen(key) / COST_BYTES + cost_of(child);
    return cost;
}

static json_t *read_alias(struct reader *r, const yaml_event_t *event)
{
    const json_t *value = json_object_get(r->anchors, (const char *)event->data.alias.anchor);
    if (!value) {
        fail_at(r, &event->start_mark, "an alias needs its anchor before it");
        return NULL;
    }
    r->cost += cost_of(value);
    if (r->cost > COST_MAX) {
        fail_at(r, &event->start_mark, "the aliases expand to too much");
        return NULL;
    }
    json_t *copy = kn_json_copy(value);
    kn_json_note(copy);
    return copy;
}

static const char *anchor_of(const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT: return (const char *)event->data.scalar.anchor;
    case YAML_SEQUENCE_START_EVENT: return (const char *)event->data.sequence_start.anchor;
    case YAML_MAPPING_START_EVENT: return (const char *)event->data.mapping_start.anchor;
    default: return NULL;
    }
}

static json_t *read_value(struct reader *r, const yaml_event_t *event, unsigned depth)
{
    json_t *value = NULL;
    if (depth > DEPTH_MAX || ++r->cost > COST_MAX) {
        fail_at(r, &event->start_mark, depth > DEPTH_MAX ? "nested too deeply" : "too many values");
        return NULL;
    }
    switch (event->type) {
    case YAML_SCALAR_EVENT: value = scalar_value(r, event); break;
    case YAML_SEQUENCE_START_EVENT: value = read_sequence(r, depth); break;
    case YAML_MAPPING_START_EVENT: value = read_mapping(r, depth); break;
    case YAML_ALIAS_EVENT: return read_alias(r, event);
    default: fail_at(r, &event->start_mark, "unexpected"); return NULL;
    }
    const char *anchor = anchor_of(event);
    if (value && anchor)
        kn_json_set(r->anchors, anchor, json_incref(value));
    return value;
}

/* One document into the list; 1: the stream is at its end. */
static int read_document(struct reader *r, json_t *documents)
{
    yaml_event_t event;
    if (next_event(r, &event))
        return -1;
    yaml_event_type_t type = event.type;
    if (type != YAML_DOCUMENT_START_EVENT) {
        yaml_event_delete(&event);
        return type == YAML_STREAM_END_EVENT ? 1 : 0;
    }
    yaml_event_delete(&event);
    json_object_clear(r->anchors);
    if (next_event(r, &event))
        return -1;
    json_t *value = read_value(r, &event, 0);
    yaml_event_delete(&event);
    if (!value)
        return -1;
    if (json_is_null(value))
        json_decref(value);
    else
        kn_json_append(documents, value);
    return 0;
}

json_t *kn_yaml_parse(const char *text, size_t size, struct kn_error *err)
{
    struct reader r = {.err = err, .anchors = json_object()};
    json_t *documents = json_array();
    unsigned long losses = kn_json_losses();
    int got = -1;
    if (!yaml_parser_initialize(&r.parser)) {
        kn_fail(err, KN_E_MEMORY, "YAML: out of memory");
    } else {
        yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, size);
        while ((got = read_document(&r, documents)) == 0)
            ;
        yaml_parser_delete(&r.parser);
    }
    json_decref(r.anchors);
    bool whole = kn_json_losses() == losses && documents;
    if (!whole)
        kn_fail(err, KN_E_MEMORY, "YAML: out of memory");
    if (got == 1 && whole)
        return documents;
    json_decref(documents);
    return NULL;
}

/* ---- values to text -------------------------------------------------------------------------------------------------
 */

struct writer {
    char *text;
    size_t size;
};

static int append(void *data, unsigned char *bytes, size_t n)
{
    struct writer *w = data;
    char *grown = realloc(w->text, w->size + n + 1);
    if (!grown)
        return 0;
    memcpy(grown + w->size, bytes, n);
    w->text = grown;
    w->size += n;
    grown[w->size] = 0;
    return 1;
}

/* A text that would be read back as something else is quoted. */
static bool needs_quotes(const char *text)
{
    json_t *read = plain_value(text);
    bool other = !json_is_string(read);
    json_decref(read);
    static const char *const single[] = {"y", "Y", "n", "N", NULL}; /* booleans to some readers */
    return other || one_of(text, single);
}

static int emit_scalar(yaml_emitter_t *e, const char *text, bool quoted)
{
    yaml_event_t event;
    yaml_scalar_style_t style = quoted               ? YAML_DOUBLE_QUOTED_SCALAR_STYLE
                                : strchr(text, '\n') ? YAML_LITERAL_SCALAR_STYLE
                                                     : YAML_ANY_SCALAR_STYLE;
    return yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)text, (int)strlen(text), 1, 1,
                                        style) &&
           yaml_emitter_emit(e, &event);
}

static int emit_value(yaml_emitter_t *e, const json_t *value)
{
    yaml_event_t event;
    char number[64];
    size_t i;
    const char *key;
    json_t *child;
    switch (json_typeof(value)) {
    case JSON_STRING: return emit_scalar(e, json_string_value(value), needs_quotes(json_string_value(value)));
    case JSON_NULL: return emit_scalar(e, "null", false);
    case JSON_TRUE: return emit_scalar(e, "true", false);
    case JSON_FALSE: return emit_scalar(e, "false", false);
    case JSON_INTEGER:
        snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return emit_scalar(e, number, false);
    case JSON_REAL:
        snprintf(number, sizeof number, "%.17g", json_real_value(value));
        return emit_scalar(e, number, false);
    case JSON_ARRAY:
        yaml_sequence_start_event_initialize(
            &event, NULL, NULL, 1, json_array_size(value) ? YAML_BLOCK_SEQUENCE_STYLE : YAML_FLOW_SEQUENCE_STYLE);
        if (!yaml_emitter_emit(e, &event))
            return 0;
        json_array_foreach((json_t *)value, i, child) if (!emit_value(e, child)) return 0;
        yaml_sequence_end_event_initialize(&event);
        return yaml_emitter_emit(e, &event);
    case JSON_OBJECT:
        yaml_mapping_start_event_initialize(
            &event, NULL, NULL, 1, json_object_size(value) ? YAML_BLOCK_MAPPING_STYLE : YAML_FLOW_MAPPING_STYLE);
        if (!yaml_emitter_emit(e, &event))
            return 0;
        json_object_foreach((json_t *)value, key,
                            child) if (!emit_scalar(e, key, needs_quotes(key)) || !emit_value(e, child)) return 0;
        yaml_mapping_end_event_initialize(&event);
        return yaml_emitter_emit(e, &event);
    }
    return 0;
}

char *kn_yaml_emit(const json_t *value, struct kn_error *err)
{
    struct writer w = {0};
    yaml_emitter_t e;
    yaml_event_t event;
    if (!yaml_emitter_initialize(&e))
        return kn_null(kn_fail(err, KN_E_MEMORY, "YAML: out of memory"));
    yaml_emitter_set_output(&e, append, &w);
    yaml_emitter_set_unicode(&e, 1);
    yaml_emitter_set_width(&e, -1);
    int ok = yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING) && yaml_emitter_emit(&e, &event) &&
             yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1) && yaml_emitter_emit(&e, &event) &&
             emit_value(&e, value) && yaml_document_end_event_initialize(&event, 1) && yaml_emitter_emit(&e, &event) &&
             yaml_stream_end_event_initialize(&event) && yaml_emitter_emit(&e, &event);
    if (!ok) {
        kn_fail(err, KN_E_MEMORY, "YAML: %s", e.problem ? e.problem : "not writable");
        free(w.text);
        w.text = NULL;
    }
    yaml_emitter_delete(&e);
    return w.text;
}
