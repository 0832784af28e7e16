"""The draws of pf2lora (src/core/random.h, src/data/sampler.h) in Python: which clients and examples a round takes."""

MASK = 2**64 - 1
ROTATIONS = ((14, 16), (52, 57), (23, 40), (5, 37), (25, 33), (46, 12), (58, 22), (32, 32))
COHORT, BATCH = 4, 6  # purposes


def threefry(key, counter):
    """Threefry-4x64 with 20 rounds (Salmon, Moraes, Dror, Shaw. SC 2011): four words of 64 bits each."""
    keys = [*key, 0x1BD11BDAA9FC1A22 ^ key[0] ^ key[1] ^ key[2] ^ key[3]]
    a, b, c, d = ((word + add) & MASK for word, add in zip(counter, keys))
    for number in range(20):
        left, right = ROTATIONS[number % 8]
        a, c = (a + b) & MASK, (c + d) & MASK
        b, d = ((b << left | b >> 64 - left) & MASK) ^ a, ((d << right | d >> 64 - right) & MASK) ^ c
        b, d = d, b
        if number % 4 == 3:
            shift = number // 4 + 1
            a, b, c, d = ((word + keys[(i + shift) % 5]) & MASK for i, word in enumerate((a, b, c, d)))
            d = (d + shift) & MASK
    return a, b, c, d


def words(seed, purpose, client=0, round=0, step=0, slot=0):
    block = 0
    while True:
        yield from threefry((seed, client, round, step), (block, slot, purpose, 0))
        block += 1


def below(stream, n):
    """Unbiased in [0, n) (Lemire 2019)."""
    while True:
        product = next(stream) * n
        if product & MASK >= 2**64 % n:
            return product >> 64


def sample(stream, n, k):
    """k different numbers of [0, n): the first k of a forward shuffle."""
    moved = {}
    drawn = []
    for i in range(k):
        j = i + below(stream, n - i)
        drawn.append(moved.get(j, j))
        moved[j] = moved.get(i, i)
    return drawn


def cohort(seed, round, clients, count):
    """The clients of a round, ascending."""
    return sorted(sample(words(seed, COHORT, round=round), clients, count))


def batch(seed, client, round, step, rows, size):
    """What the client sees of its `rows` in that step, in their order."""
    if len(rows) <= size:
        return list(rows)
    return [rows[i] for i in sorted(sample(words(seed, BATCH, client, round, step), len(rows), size))]
