/* SPDX-License-Identifier: AGPL-3.0-only */
/* Any bytes at the AMQP door: refused with a sentence, or a request whose parts keep their rules.
 */
#include "wire/payload.h"
#include "wire/request.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct chp_arena arena = {0};
    struct chp_error error = {0};
    struct chp_request request;
    if (chp_request_decode(chp_bytes(data, size), &arena, &request, &error) != 0) {
        CHP_ASSERT(error.code < 0 && error.text[0] != 0);
        CHP_ASSERT(chp_utf8_valid(error.text, strlen(error.text)));
        CHP_ASSERT(request.resource == NULL);
    } else {
        CHP_ASSERT(chp_resource_id_check(request.resource, NULL) == 0);
        CHP_ASSERT(chp_type_check(request.type, NULL) == 0);
        CHP_ASSERT(request.payload.len > 0 && request.payload.len <= CHP_PAYLOAD_MAX_BYTES);
        for (size_t i = 0; i < request.file_count; i++) {
            CHP_ASSERT(chp_file_name_check(request.files[i].name, NULL) == 0);
        }
        (void)chp_request_hash(&request);
    }
    chp_arena_deinit(&arena);
    return 0;
}
