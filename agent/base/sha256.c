/* SPDX-License-Identifier: AGPL-3.0-only */
#include "base/sha256.h"

#include <openssl/evp.h>
#include <string.h>

/* EVP_MD_CTX under a name of ours, so that headers do not need OpenSSL's. */
static EVP_MD_CTX *context_of(struct chp_sha256_state *state)
{
    return (EVP_MD_CTX *)(void *)state;
}

struct chp_sha256 chp_sha256_of(const void *data, size_t len)
{
    struct chp_sha256_state *state = chp_sha256_new();
    chp_sha256_update(state, data, len);
    return chp_sha256_finish(state);
}

struct chp_sha256_state *chp_sha256_new(void)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    CHP_ASSERT(context != NULL);
    CHP_ASSERT(EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1);
    return (struct chp_sha256_state *)(void *)context;
}

void chp_sha256_update(struct chp_sha256_state *state, const void *data, size_t len)
{
    CHP_ASSERT(EVP_DigestUpdate(context_of(state), data, len) == 1);
}

struct chp_sha256 chp_sha256_finish(struct chp_sha256_state *state)
{
    struct chp_sha256 sha256;
    unsigned int len = 0;
    CHP_ASSERT(EVP_DigestFinal_ex(context_of(state), sha256.bytes, &len) == 1);
    CHP_ASSERT(len == sizeof sha256.bytes);
    chp_sha256_free(state);
    return sha256;
}

void chp_sha256_free(struct chp_sha256_state *state)
{
    EVP_MD_CTX_free(context_of(state));
}

void chp_sha256_format(const struct chp_sha256 *sha256, char text[CHP_SHA256_TEXT_BYTES])
{
    chp_hex_encode(sha256->bytes, sizeof sha256->bytes, text);
}

int chp_sha256_parse(const char *text, struct chp_sha256 *sha256)
{
    return strlen(text) == CHP_SHA256_TEXT_BYTES - 1
               ? chp_hex_decode(text, sha256->bytes, sizeof sha256->bytes)
               : CHP_EMALFORMED;
}
