/* SPDX-License-Identifier: AGPL-3.0-only */
/* SHA-256 (OpenSSL's), whole or in pieces: names of blobs, hashes of requests. */
#ifndef CHP_BASE_SHA256_H
#define CHP_BASE_SHA256_H

#include "base/buf.h"

enum { CHP_SHA256_BYTES = 32, CHP_SHA256_TEXT_BYTES = 65 };

struct chp_sha256 {
    uint8_t bytes[CHP_SHA256_BYTES];
};

struct chp_sha256_state;

struct chp_sha256 chp_sha256_of(const void *data, size_t len);
struct chp_sha256_state *chp_sha256_new(void);
void chp_sha256_update(struct chp_sha256_state *state, const void *data, size_t len);
/* Frees state. */
struct chp_sha256 chp_sha256_finish(struct chp_sha256_state *state);
void chp_sha256_free(struct chp_sha256_state *state);
void chp_sha256_format(const struct chp_sha256 *sha256, char text[CHP_SHA256_TEXT_BYTES]);
int chp_sha256_parse(const char *text, struct chp_sha256 *sha256) CHP_MUST_CHECK;

#endif
