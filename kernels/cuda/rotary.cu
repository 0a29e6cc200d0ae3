/* rotary_f32 for heads whose halves are multiples of four columns and begin where four floats can be loaded at once: a thread
 * turns four pairs. */
#include "cuda/words.h"

TUNED_KERNEL(rotary_packed4_f32, 6)(
    OUT(float, x), int heads, int half_size, IN(float, cosine), IN(float, sine), int length) {
    const int across = half_size / 4, fours = heads * across, stripes = (fours + GROUP - 1) / GROUP;
    const i64 row = GROUP_ID / stripes, position = row % length;
    const int four = (int)(GROUP_ID % stripes) * GROUP + LOCAL_ID;
    if (four < fours) {
        const int j = 4 * (four % across);
        float *low = ROW(x, row) + four / across * 2 * half_size + j, *high = low + half_size;
        const float4 a = LOAD4_ONCE(low), b = LOAD4_ONCE(high);
        const float4 c = LOAD4(ROW(cosine, position) + j), s = LOAD4(ROW(sine, position) + j);
        const float4 turned = {a.x * c.x - b.x * s.x, a.y * c.y - b.y * s.y, a.z * c.z - b.z * s.z, a.w * c.w - b.w * s.w};
        const float4 upper = {b.x * c.x + a.x * s.x, b.y * c.y + a.y * s.y, b.z * c.z + a.z * s.z, b.w * c.w + a.w * s.w};
        STORE4(low, turned);
        STORE4(high, upper);
    }
}
