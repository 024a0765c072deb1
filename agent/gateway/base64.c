/* SPDX-License-Identifier: AGPL-3.0-only */
/* Standard base64 (RFC 4648, section 4), for bytes in JSON and basic authentication. */
#include "gateway/json.h"

#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void gateway__base64_encode(const void *data, size_t len, struct chp_buf *out)
{
    const uint8_t *bytes = data;
    chp_buf_reserve(out, (len + 2) / 3 * 4);
    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        uint32_t bits = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                        (left > 2 ? bytes[i + 2] : 0);
        chp_buf_add_byte(out, (uint8_t)alphabet[bits >> 18]);
        chp_buf_add_byte(out, (uint8_t)alphabet[bits >> 12 & 63]);
        chp_buf_add_byte(out, left > 1 ? (uint8_t)alphabet[bits >> 6 & 63] : '=');
        chp_buf_add_byte(out, left > 2 ? (uint8_t)alphabet[bits & 63] : '=');
    }
}

int gateway__base64_decode(const char *text, size_t len, struct chp_buf *out)
{
    size_t padding = len > 0 && text[len - 1] == '=' ? 1 : 0;
    padding += len > 1 && text[len - 2] == '=' ? 1 : 0;
    if (len % 4 != 0) {
        return CHP_EMALFORMED;
    }
    uint32_t bits = 0;
    for (size_t i = 0; i < len; i++) {
        const char *at = i < len - padding ? strchr(alphabet, text[i]) : alphabet;
        if (at == NULL || *at == '\0') {
            return CHP_EMALFORMED;
        }
        bits = bits << 6 | (uint32_t)(at - alphabet);
        if (i % 4 == 3) {
            uint8_t three[3] = {(uint8_t)(bits >> 16), (uint8_t)(bits >> 8), (uint8_t)bits};
            chp_buf_add(out, three, i + 1 == len ? 3 - padding : 3);
            bits = 0;
        }
    }
    return 0;
}
