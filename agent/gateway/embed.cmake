# SPDX-License-Identifier: AGPL-3.0-only
# Writes the bytes of INPUT as a C array to OUTPUT.
file(READ ${INPUT} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes
    "${bytes}")
file(WRITE ${OUTPUT} "/* Made from schema/openapi.json. */
#include \"gateway/internal.h\"

const unsigned char gateway__openapi_json[] = {
${bytes}
};
const size_t gateway__openapi_json_bytes = sizeof gateway__openapi_json;
")
