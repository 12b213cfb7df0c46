"""alt_bn128 in Python alone, for machines without mcl.

Right first, but not naive: an element of the twelfth-degree extension is a polynomial in w with w^12 = 18 w^6
- 82, twelve integers that are multiplied as one big integer (Kronecker substitution, 25 us); points of the
second group stay on the twist, where i = w^6 - 9; all pairs of a check share the squarings of the Miller loop
and one final exponentiation. A check takes about 60 ms and 35 ms a pair, where py_ecc takes 310 ms a pair and
mcl 0.3 ms.

Formulas: optimal ate pairing (Vercauteren 2010), hard part of the final exponentiation after
Fuentes-Castaneda, Knapp, Rodriguez-Henriquez (SAC 2011), whose result is a fixed power of the pairing: it is
one for the same inputs.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from flashctl.evm.precompiles.bn254 import FIELD_MODULUS, G1, G2, GROUP_ORDER, InvalidPoint, on_curve

__all__ = ["PurePython"]

P: Final = FIELD_MODULUS
_U: Final = 4965661367192848881
"""The curve's parameter: modulus and group order are polynomials in it."""

_LOOP: Final = 6 * _U + 2
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
    c = [int.from_bytes(raw[start : start + _LIMB], "little") for start in range(0, 23 * _LIMB, _LIMB)]
    for power in range(22, 11, -1):
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


def _line(t: _Twist, slope: Fp2, p: G1) -> Fp12:
    """The line through the untwisted t, evaluated at p: y_p - slope x_p w + (slope x_t - y_t) w^3."""
    x, y = _scale2(slope, -p[0]), _sub2(_mul2(slope, t[0]), t[1])
    value = [0] * 12
    value[0] = p[1]
    value[1], value[7] = (x[0] - 9 * x[1]) % P, x[1]
    value[3], value[9] = (y[0] - 9 * y[1]) % P, y[1]
    return tuple(value)


def _double(t: _Twist) -> tuple[_Twist, Fp2]:
    x, y = t
    slope = _mul2(_scale2(_mul2(x, x), 3), _inverse2(_scale2(y, 2)))
    return _third(t, x, slope), slope


def _add(t: _Twist, q: _Twist) -> tuple[_Twist, Fp2]:
    slope = _mul2(_sub2(q[1], t[1]), _inverse2(_sub2(q[0], t[0])))
    return _third(t, q[0], slope), slope


def _third(t: _Twist, other_x: Fp2, slope: Fp2) -> _Twist:
    x = _sub2(_sub2(_mul2(slope, slope), t[0]), other_x)
    return x, _sub2(_mul2(slope, _sub2(t[0], x)), t[1])


@cache
def _twist_factors() -> tuple[Fp2, Fp2, Fp2]:
    """What the Frobenius map multiplies x and y of the twist by, and its square x."""
    return _pow2(_XI, (P - 1) // 3), _pow2(_XI, (P - 1) // 2), _pow2(_XI, (P * P - 1) // 3)


def _endpoints(q: _Twist) -> tuple[_Twist, _Twist]:
    """Frobenius of q, and minus its square: the last two points of the optimal ate loop."""
    (x, y), (first_x, first_y, second_x) = q, _twist_factors()
    once = _mul2((x[0], -x[1] % P), first_x), _mul2((y[0], -y[1] % P), first_y)
    return once, (_mul2(x, second_x), y)


def _miller_loop(pairs: list[tuple[G1, _Twist]]) -> Fp12:
    f = _ONE
    points = [q for _, q in pairs]
    for bit in bin(_LOOP)[3:]:
        f = _mul12(f, f)
        for index, (p, q) in enumerate(pairs):
            t = points[index]
            points[index], slope = _double(t)
            f = _mul12(f, _line(t, slope, p))
            if bit == "1":
                t = points[index]
                points[index], slope = _add(t, q)
                f = _mul12(f, _line(t, slope, p))
    for t, (p, q) in zip(points, pairs, strict=True):
        for end in _endpoints(q):
            following, slope = _add(t, end)
            f = _mul12(f, _line(t, slope, p))
            t = following
    return f


def _on_twist(q: _Twist) -> bool:
    x, y = q
    cube = _mul2(_mul2(x, x), x)
    b = _scale2(_inverse2(_XI), _B)
    return _mul2(y, y) == ((cube[0] + b[0]) % P, (cube[1] + b[1]) % P)


def _has_group_order(q: _Twist) -> bool:
    """Whether [order]q is infinity: [order - 1]q must be -q."""
    t = q
    for bit in bin(GROUP_ORDER - 1)[3:]:
        if t[1] == (0, 0):
            return False
        t, _ = _double(t)
        if bit == "1":
            if t[0] == q[0]:
                return False
            t, _ = _add(t, q)
    return t == (q[0], _sub2((0, 0), q[1]))


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
    """The point, or None for infinity.

    Raises:
        InvalidPoint: If it is not on the twist or not in the group.
    """
    if not any(point):
        return None
    q = (point.x0, point.x1), (point.y0, point.y1)
    if not _on_twist(q) or not _has_group_order(q):
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
        for bit in bin(scalar)[2:]:
            total = _double_jacobian(total)
            if bit == "1":
                total = _add_affine(total, point)
        x, y, z = total
        if z == 0:
            return 0, 0
        inverse = pow(z, -1, P)
        square = inverse * inverse % P
        return x * square % P, y * square * inverse % P

    def pairing_is_one(self, pairs: list[tuple[G1, G2]]) -> bool:
        finite = []
        for point, twisted in pairs:
            is_finite, q = _check_g1(point), _check_g2(twisted)
            if is_finite and q is not None:
                finite.append((point, q))
        return not finite or _final_exponentiation(_miller_loop(finite)) == _ONE
