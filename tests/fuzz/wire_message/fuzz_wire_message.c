/* SPDX-License-Identifier: AGPL-3.0-only */
/* Any bytes as a message. What the scan accepts, msgpack-c accepts, too, up to the last byte; what
 * decodes encodes to something that decodes to the same. */
#include "wire/token.h"
#include "wire/wire.h"

#include <msgpack.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compare_with_library(const uint8_t *data, size_t size)
{
    msgpack_unpacked unpacked;
    size_t offset = 0;
    if (wire__scan(chp_bytes(data, size), NULL) != 0) {
        return;
    }
    msgpack_unpacked_init(&unpacked);
    CHP_ASSERT(msgpack_unpack_next(&unpacked, (const char *)data, size, &offset) ==
               MSGPACK_UNPACK_SUCCESS);
    CHP_ASSERT(offset == size);
    msgpack_unpacked_destroy(&unpacked);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct chp_arena arena = {0};
    struct chp_error error = {0};
    struct chp_message message;
    compare_with_library(data, size);
    if (chp_message_decode(chp_bytes(data, size), &arena, &message, &error) != 0) {
        CHP_ASSERT(error.code < 0 && chp_utf8_valid(error.text, strlen(error.text)));
    } else {
        struct chp_buf out = {0};
        struct chp_message again;
        chp_message_encode(&message.header, message.items, message.item_count, &out);
        CHP_ASSERT(chp_message_decode(chp_buf_bytes(&out), &arena, &again, &error) == 0);
        CHP_ASSERT(again.item_count == message.item_count);
        CHP_ASSERT(strcmp(again.header.from, message.header.from) == 0);
        CHP_ASSERT(again.header.first == message.header.first);
        chp_buf_deinit(&out);
    }
    chp_arena_deinit(&arena);
    return 0;
}
