/* static/compat - what the agent's static binary needs beside musl's headers; included before every file of it.
 *
 * Debian has libmicrohttpd, jansson and libsodium built for glibc alone. On these architectures musl lays out what they
 * use as glibc does; compat.c has the functions that glibc's headers made them call and musl lacks. */
#ifndef KN_STATIC_COMPAT_H
#define KN_STATIC_COMPAT_H

#include <sys/time.h> /* glibc's <sys/socket.h> brings struct timeval */

#endif
