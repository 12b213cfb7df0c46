"""alt_bn128 in Python alone, for machines without mcl.

Right first, but not naive: an element of the twelfth-degree extension is a polynomial in w with w^12 = 18 w^6
- 82, twelve integers that are multiplied as one big integer (Kronecker substitution, 25 us); points of the
second group stay on the twist, where i = w^6 - 9; all pairs of a check share the squarings of the Miller
loop, its inversions and one final exponentiation, and the loop itself shows whether a point is in the group.
A check takes about 25 ms and 5 ms a pair, where py_ecc takes 310 ms a pair and mcl 0.3 ms; a multiple takes
1.5 ms.

Formulas: optimal ate pairing (Vercauteren 2010), hard part of the final exponentiation after
Fuentes-Castaneda, Knapp, Rodriguez-Henriquez (SAC 2011), whose result is a fixed power of the pairing: it is
one for the same inputs.
"""

from __future__ import annotations

from functools import cache
from itertools import accumulate
from typing import Final

from flashctl.evm.precompiles.bn254_curve import FIELD_MODULUS, G1, G2, GROUP_ORDER, InvalidPoint, on_curve
from flashctl.evm.precompiles.contract import Check, unbounded

__all__ = ["PurePython"]

P: Final = FIELD_MODULUS
_U: Final = 4965661367192848881
"""The curve's parameter: modulus and group order are polynomials in it."""

_BETA: Final = 18 * _U**3 + 18 * _U**2 + 9 * _U + 1
"""A cube root of one in the base field: x to beta x multiplies a point by 36 u^3 + 18 u^2 + 6 u + 1."""

_B: Final = 3
_LIMB: Final = 66
"""Bytes per coefficient: room for a sum of twelve products."""

Fp2 = tuple[int, int]
Fp12 = tuple[int, ...]
_Twist = tuple[Fp2, Fp2]
"""Affine point of the twist y^2 = x^3 + 3 / (9 + i)."""

_XI: Final[Fp2] = (9, 1)
_ONE: Final[Fp12] = (1,) + (0,) * 11


def _mul2(a: Fp2, b: Fp2) -> Fp2:
    return (a[0] * b[0] - a[1] * b[1]) % P, (a[0] * b[1] + a[1] * b[0]) % P


def _sub2(a: Fp2, b: Fp2) -> Fp2:
    return (a[0] - b[0]) % P, (a[1] - b[1]) % P


def _scale2(a: Fp2, factor: int) -> Fp2:
    return a[0] * factor % P, a[1] * factor % P


def _inverse2(a: Fp2) -> Fp2:
    norm = pow(a[0] * a[0] + a[1] * a[1], -1, P)
    return a[0] * norm % P, -a[1] * norm % P


def _pow2(a: Fp2, exponent: int) -> Fp2:
    result: Fp2 = (1, 0)
    for bit in bin(exponent)[2:]:
        result = _mul2(result, result)
        if bit == "1":
            result = _mul2(result, a)
    return result


def _pack(a: Fp12) -> int:
    return int.from_bytes(b"".join([c.to_bytes(_LIMB, "little") for c in a]), "little")


def _mul12(a: Fp12, b: Fp12) -> Fp12:
    left = _pack(a)
    raw = (left * (left if a is b else _pack(b))).to_bytes(23 * _LIMB, "little")
    return _reduced(
        [int.from_bytes(raw[start : start + _LIMB], "little") for start in range(0, 23 * _LIMB, _LIMB)]
    )


def _reduced(c: list[int]) -> Fp12:
    """The element with these coefficients of w^0, w^1 and so on, however many."""
    for power in range(len(c) - 1, 11, -1):
        c[power - 6] += 18 * c[power]
        c[power - 12] -= 82 * c[power]
    return tuple([value % P for value in c[:12]])


def _conjugate(a: Fp12) -> Fp12:
    """The element to the power p^6; the inverse of one of norm one."""
    return tuple(-c % P if power & 1 else c for power, c in enumerate(a))


@cache
def _frobenius_rows(times: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """For each power k of w: the coefficients of (w^k)^(p^times) as (power, coefficient)."""
    rows = []
    for power in range(12):
        c0, c1 = _pow2(_XI, power * (P**times - 1) // 6)
        # w^power * (c0 + c1 i), with i = w^6 - 9.
        row = {power: (c0 - 9 * c1) % P}
        if power < 6:
            row[power + 6] = c1
        else:
            row[power] = (row[power] + 18 * c1) % P
            row[power - 6] = -82 * c1 % P
        rows.append(tuple(row.items()))
    return tuple(rows)


def _frobenius(a: Fp12, times: int) -> Fp12:
    """The element to the power p^times."""
    result = [0] * 12
    for coefficient, row in zip(a, _frobenius_rows(times), strict=True):
        for power, factor in row:
            result[power] += coefficient * factor
    return tuple(value % P for value in result)


def _inverse12(a: Fp12) -> Fp12:
    """By norms: a^-1 = (a^(p^6) a^(p^2) ...) / norm, down to the base field."""
    others = _frobenius(a, 1)
    for times in range(2, 12):
        others = _mul12(others, _frobenius(a, times))
    norm = _mul12(a, others)[0]
    factor = pow(norm, -1, P)
    return tuple(c * factor % P for c in others)


def _power_u(a: Fp12) -> Fp12:
    result = a
    for bit in bin(_U)[3:]:
        result = _mul12(result, result)
        if bit == "1":
            result = _mul12(result, a)
    return result


def _final_exponentiation(f: Fp12) -> Fp12:
    f = _mul12(_conjugate(f), _inverse12(f))
    f = _mul12(_frobenius(f, 2), f)
    # Now f has norm one and conjugation inverts. The hard part, as a chain in powers of u:
    fu = _conjugate(_power_u(f))
    f2u = _mul12(fu, fu)
    f4u = _mul12(f2u, f2u)
    f6u = _mul12(f4u, f2u)
    f6u2 = _conjugate(_power_u(f6u))
    f12u2 = _mul12(f6u2, f6u2)
    f12u3 = _conjugate(_power_u(f12u2))
    a = _mul12(_mul12(_conjugate(f12u3), f6u2), _conjugate(f6u))
    b = _mul12(a, f2u)
    c = _mul12(_mul12(a, f6u2), f)
    d = _mul12(c, _frobenius(b, 1))
    e = _mul12(_frobenius(a, 2), d)
    return _mul12(e, _frobenius(_mul12(_conjugate(f), b), 3))


def _naf(number: int) -> list[int]:
    """Digits -1, 0 and 1 of a positive number, the highest first, no two of them beside each other."""
    digits = []
    while number:
        digit = 2 - number % 4 if number & 1 else 0
        digits.append(digit)
        number = (number - digit) >> 1
    return digits[::-1]


_LOOP_DIGITS: Final = tuple(_naf(6 * _U + 2))
"""22 of them are not zero, where the number has 37 ones."""


def _times_line(f: Fp12, t: _Twist, slope: Fp2, p: G1) -> Fp12:
    """f times the line through the untwisted t, at p: y_p - slope x_p w + (slope x_t - y_t) w^3.

    Five of its twelve coefficients are not zero: 60 products instead of the one of big integers.
    """
    x, y = _scale2(slope, -p[0]), _sub2(_mul2(slope, t[0]), t[1])
    c = [p[1] * factor for factor in f]
    c += [0] * 9
    for power, coefficient in ((1, x[0] - 9 * x[1]), (3, y[0] - 9 * y[1]), (7, x[1]), (9, y[1])):
        for factor in f:
            c[power] += coefficient * factor
            power += 1
    return _reduced(c)


def _divided(numerators: list[Fp2], denominators: list[Fp2]) -> list[Fp2]:
    """Quotients, for one inversion in the base field in all (Montgomery's trick).

    Raises:
        ValueError: If a denominator is zero.
    """
    norms = [(a * a + b * b) % P for a, b in denominators]
    before = list(accumulate(norms, lambda product, norm: product * norm % P, initial=1))
    inverse = pow(before.pop(), -1, P)
    quotients = []
    for (a, b), numerator, norm, rest in zip(
        reversed(denominators), reversed(numerators), reversed(norms), reversed(before), strict=True
    ):
        own, inverse = inverse * rest % P, inverse * norm % P
        quotients.append(_mul2(numerator, (a * own % P, -b * own % P)))
    return quotients[::-1]


def _tangents(points: list[_Twist]) -> list[Fp2]:
    return _divided([_scale2(_mul2(x, x), 3) for x, _ in points], [_scale2(y, 2) for _, y in points])


def _chords(points: list[_Twist], others: list[_Twist]) -> list[Fp2]:
    ends = list(zip(points, others, strict=True))
    return _divided([_sub2(q[1], t[1]) for t, q in ends], [_sub2(q[0], t[0]) for t, q in ends])


def _third(t: _Twist, other_x: Fp2, slope: Fp2) -> _Twist:
    """Where the line meets the curve once more, mirrored: the sum."""
    x = _sub2(_sub2(_mul2(slope, slope), t[0]), other_x)
    return x, _sub2(_mul2(slope, _sub2(t[0], x)), t[1])


@cache
def _twist_factors() -> tuple[Fp2, Fp2]:
    """What the Frobenius map multiplies x and y of the twist by."""
    return _pow2(_XI, (P - 1) // 3), _pow2(_XI, (P - 1) // 2)


def _frobenius_twist(q: _Twist) -> _Twist:
    """A point to the power p, on the twist."""
    ((x0, x1), (y0, y1)), (factor_x, factor_y) = q, _twist_factors()
    return _mul2((x0, -x1), factor_x), _mul2((y0, -y1), factor_y)


def _negated(q: _Twist) -> _Twist:
    return q[0], (-q[1][0] % P, -q[1][1] % P)


class _MillerLoop:
    """The loop over all pairs at once; a pair whose first point is None is only checked."""

    def __init__(self, pairs: list[tuple[G1 | None, _Twist]], check: Check) -> None:
        self._at = [p for p, _ in pairs]
        self._points = [q for _, q in pairs]
        self._check = check
        self._f = _ONE

    def run(self) -> Fp12:
        """The product of the pairs' values.

        Each second point q must have the group's order. A by-product of the loop decides that: with pi
        for Frobenius, [6u + 2]q + pi(q) - pi^2(q) + pi^3(q) is infinity for no other point of the twist,
        since the norm of that expression in pi and the number of points have no more than the order in
        common (Dai, Lin, Zhao, Zhou, 2022).

        Raises:
            InvalidPoint: If one has not.
        """
        own = list(self._points)
        signed = {1: own, -1: [_negated(q) for q in own]}
        try:
            for digit in _LOOP_DIGITS[1:]:
                self._f = _mul12(self._f, self._f)
                self._advance(self._points, _tangents(self._points))
                if digit:
                    self._add(signed[digit])
            once = [_frobenius_twist(q) for q in own]
            twice = [_negated(_frobenius_twist(q)) for q in once]
            self._add(once)
            self._add(twice)
        except ValueError:
            # A vertical line, which a point of the right order never meets here.
            raise InvalidPoint from None
        if self._points != [_frobenius_twist(q) for q in twice]:
            raise InvalidPoint
        return self._f

    def _add(self, others: list[_Twist]) -> None:
        self._advance(others, _chords(self._points, others))

    def _advance(self, others: list[_Twist], slopes: list[Fp2]) -> None:
        """Multiply every line into the product and move every point along its line."""
        for index, (p, t, other, slope) in enumerate(
            zip(self._at, self._points, others, slopes, strict=True)
        ):
            self._check()
            if p is not None:
                self._f = _times_line(self._f, t, slope, p)
            self._points[index] = _third(t, other[0], slope)


def _on_twist(q: _Twist) -> bool:
    x, y = q
    cube = _mul2(_mul2(x, x), x)
    b = _scale2(_inverse2(_XI), _B)
    return _mul2(y, y) == ((cube[0] + b[0]) % P, (cube[1] + b[1]) % P)


_Jacobian = tuple[int, int, int]


def _double_jacobian(point: _Jacobian) -> _Jacobian:
    x, y, z = point
    square = y * y % P
    s = 4 * x * square % P
    m = 3 * x * x % P
    x3 = (m * m - 2 * s) % P
    return x3, (m * (s - x3) - 8 * square * square) % P, 2 * y * z % P


def _add_affine(left: _Jacobian, right: G1) -> _Jacobian:
    x, y, z = left
    if z == 0:
        return right[0], right[1], 1
    zz = z * z % P
    h = (right[0] * zz - x) % P
    r = (right[1] * zz * z - y) % P
    if h == 0:
        return _double_jacobian(left) if r == 0 else (0, 1, 0)
    hh = h * h % P
    hhh, v = h * hh % P, x * hh % P
    x3 = (r * r - hhh - 2 * v) % P
    return x3, (r * (v - x3) - y * hhh) % P, z * h % P


def _split(point: G1, scalar: int) -> list[tuple[G1, ...]]:
    """What to add after each doubling for a multiple of a point, the highest first.

    By the endomorphism that multiplies x by a cube root of one and the point by another, the scalar becomes
    two of half the length (Gallant, Lambert, Vanstone 2001): half the doublings, a third less time.
    """
    # The halves are what is left of (scalar, 0) beside the nearest point of the lattice of all (a, b) with
    # a + b lambda = 0, whose base is (a, short), (-short, b).
    a, b, short = 6 * _U**2 + 4 * _U + 1, 6 * _U**2 + 2 * _U, 2 * _U + 1
    first = (2 * scalar * b + GROUP_ORDER) // (2 * GROUP_ORDER)
    second = (GROUP_ORDER - 2 * scalar * short) // (2 * GROUP_ORDER)
    halves = scalar - first * a + second * short, -first * short - second * b
    x, y = point
    digits, choices = [], []
    for half, own_x in zip(halves, (x, x * _BETA % P), strict=True):
        up, down = (own_x, y), (own_x, P - y)
        choices.append({0: (), 1: (up,), -1: (down,)} if half > 0 else {0: (), 1: (down,), -1: (up,)})
        digits.append(_naf(abs(half)))
    length = max(map(len, digits))
    first_digits, second_digits = ([0] * (length - len(each)) + each for each in digits)
    both = {(i, j): choices[0][i] + choices[1][j] for i in (-1, 0, 1) for j in (-1, 0, 1)}
    return [both[pair] for pair in zip(first_digits, second_digits, strict=True)]


def _check_g1(point: G1) -> bool:
    """Whether the point is finite.

    Raises:
        InvalidPoint: If it is not on the curve.
    """
    if point == (0, 0):
        return False
    if not on_curve(point):
        raise InvalidPoint
    return True


def _check_g2(point: G2) -> _Twist | None:
    """The point, or None for infinity. Whether it is in the group shows in the Miller loop.

    Raises:
        InvalidPoint: If it is not on the twist.
    """
    if not any(point):
        return None
    q = (point.x0, point.x1), (point.y0, point.y1)
    if not _on_twist(q):
        raise InvalidPoint
    return q


class PurePython:
    """The contracts' arithmetic without any library."""

    def add(self, left: G1, right: G1) -> G1:
        finite = _check_g1(left), _check_g1(right)
        if not all(finite):
            return left if finite[0] else right
        (x1, y1), (x2, y2) = left, right
        if x1 == x2:
            if (y1 + y2) % P == 0:
                return 0, 0
            slope = 3 * x1 * x1 * pow(2 * y1, -1, P) % P
        else:
            slope = (y2 - y1) * pow(x2 - x1, -1, P) % P
        x = (slope * slope - x1 - x2) % P
        return x, (slope * (x1 - x) - y1) % P

    def multiply(self, point: G1, scalar: int) -> G1:
        if not _check_g1(point) or not scalar:
            return 0, 0
        # Jacobian coordinates (X / Z^2, Y / Z^3): one inversion in the end instead of one a step.
        total: _Jacobian = (0, 1, 0)
        for addends in _split(point, scalar):
            total = _double_jacobian(total)
            for addend in addends:
                total = _add_affine(total, addend)
        x, y, z = total
        if z == 0:
            return 0, 0
        inverse = pow(z, -1, P)
        square = inverse * inverse % P
        return x * square % P, y * square * inverse % P

    def pairing_is_one(self, pairs: list[tuple[G1, G2]], check: Check = unbounded) -> bool:
        wanted: list[tuple[G1 | None, _Twist]] = []
        for point, twisted in pairs:
            check()
            is_finite, q = _check_g1(point), _check_g2(twisted)
            if q is not None:
                wanted.append((point if is_finite else None, q))
        if not wanted:
            return True
        product = _MillerLoop(wanted, check).run()
        return product == _ONE or _final_exponentiation(product) == _ONE
