/* agent/http_head - the head of an HTTP request, read before libmicrohttpd sees the connection. */
#ifndef KN_AGENT_HTTP_HEAD_H
#define KN_AGENT_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>

#define KN_HEAD_MAX 8192 /* control sends far less */

enum kn_head {
    KN_HEAD_PART,    /* more is to come */
    KN_HEAD_WHOLE,   /* up to the empty line */
    KN_HEAD_GARBAGE, /* not HTTP, or too long */
};
enum kn_head kn_head_look(const char *head, size_t size);
/* The value of the first header of that name in a whole head, without the blanks around it. False: there is none, or
 * it has no room. */
bool kn_head_value(const char *head, size_t size, const char *name, char *value, size_t room);
bool kn_head_has_body(const char *head, size_t size);

#endif
