/* SPDX-License-Identifier: AGPL-3.0-only */
/* Any bytes as an item: what decodes can be encoded, and its encoding is stable. */
#include "wire/wire.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct chp_arena arena = {0};
    struct chp_error error = {0};
    struct chp_item item;
    struct chp_item again;
    struct chp_buf first = {0};
    struct chp_buf second = {0};
    if (chp_item_decode(chp_bytes(data, size), &arena, &item, &error) != 0) {
        CHP_ASSERT(error.code < 0 && chp_utf8_valid(error.text, strlen(error.text)));
    } else {
        CHP_ASSERT(chp_item_encode(&item, &first, &error) == 0);
        CHP_ASSERT(chp_item_decode(chp_buf_bytes(&first), &arena, &again, &error) == 0);
        CHP_ASSERT(chp_item_encode(&again, &second, &error) == 0);
        CHP_ASSERT(chp_bytes_equal(chp_buf_bytes(&first), chp_buf_bytes(&second)));
    }
    chp_buf_deinit(&first);
    chp_buf_deinit(&second);
    chp_arena_deinit(&arena);
    return 0;
}
