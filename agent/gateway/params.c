/* SPDX-License-Identifier: AGPL-3.0-only */
/* What handlers read of a request beside its path: query parameters, headers, the JSON body. */
#include "gateway/internal.h"

#include "base/uuid.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *gateway__param(const struct gateway_exchange *exchange, const char *name)
{
    return evhttp_find_header(&exchange->query, name);
}

int gateway__param_number(struct gateway_exchange *exchange, const char *name, uint64_t min,
                          uint64_t max, uint64_t *value)
{
    const char *text = gateway__param(exchange, name);
    if (text == NULL) {
        return 0;
    }
    errno = 0;
    unsigned long long number = strtoull(text, NULL, 10);
    if (text[0] == '\0' || text[strspn(text, "0123456789")] != '\0' || errno != 0 || number < min ||
        number > max) {
        gateway__refuse(exchange, 0, CHP_EINVAL, "%s must be a number from %llu to %llu", name,
                        (unsigned long long)min, (unsigned long long)max);
        return CHP_EINVAL;
    }
    *value = number;
    return 0;
}

int gateway__param_flag(struct gateway_exchange *exchange, const char *name, bool *value)
{
    const char *text = gateway__param(exchange, name);
    if (text == NULL) {
        return 0;
    }
    if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
        gateway__refuse(exchange, 0, CHP_EINVAL, "%s must be true or false", name);
        return CHP_EINVAL;
    }
    *value = strcmp(text, "true") == 0;
    return 0;
}

int gateway__request_key(struct gateway_exchange *exchange, struct chp_request *request)
{
    const char *key =
        evhttp_find_header(evhttp_request_get_input_headers(exchange->request), "Idempotency-Key");
    if (key == NULL) {
        struct chp_uuid uuid = chp_uuid_new();
        char text[CHP_UUID_TEXT_BYTES];
        chp_uuid_format(&uuid, text);
        request->key = chp_arena_strdup(&exchange->arena, text);
        return 0;
    }
    if (key[0] == '\0' || strlen(key) > CHP_ID_MAX_BYTES || !chp_utf8_valid(key, strlen(key))) {
        gateway__refuse(exchange, 0, CHP_EINVAL, "Idempotency-Key must be 1 to %d bytes of UTF-8",
                        CHP_ID_MAX_BYTES);
        return CHP_EINVAL;
    }
    request->key = chp_arena_strdup(&exchange->arena, key);
    request->key_given = true;
    return 0;
}

json_t *gateway__body_json(struct gateway_exchange *exchange)
{
    struct chp_error error = {0};
    json_t *json = gateway__json_parse(exchange->body.data, exchange->body.len, &error);
    if (json == NULL) {
        gateway__refuse(exchange, 0, error.code, "%s", error.text);
    }
    return json;
}
