"""Checkpoints are the signed notes that other transparency-log tools read, and nothing malformed or unsigned passes."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

import pytest
from gatehouse.capsule.checkpoint import (
    MAX_NOTE_BYTES,
    Checkpoint,
    InvalidNote,
    Verifier,
    decode_base64,
    open_checkpoint,
    open_note,
    origin_of,
    sign_checkpoint,
    sign_note,
)
from gatehouse.capsule.merkle import EMPTY_ROOT, leaf_hash
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

# golang.org/x/mod, sumdb/note/note.go and note_test.go.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)
# Heads that sum.golang.org signed, and its published key.
GO_SUM = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
GO_SUM_HEADS = [
    (
        15368405,
        "go.sum database tree\n15368405\n/g9am3I6YWNKaZX/jkne1fqd9zEyjss+JXyPXG0WfkY=\n\n"
        "— sum.golang.org "
        "Az3grqJGUaSGukG9p8nI2vKgiFn7qGHxn0W+mrwyI6Gz3F0t1J3LzmWk/p96Ybf295EjwdSwlzgijq5WA9d1Ded7owM=\n",
    ),
    (
        3784599,
        "go.sum database tree\n3784599\n7uvxIZ67TZygcq/AehTD8iHYt81Ih+Zl2Y7vXZbfszQ=\n\n"
        "— sum.golang.org "
        "Az3grn972wXskjQrsZhVGc93fTU2uOsmSTiId1Wn1lxDCup5z4ggl1/4gaUqOkMa6cMbYvjB7hn7yemNr7Zqanol/go=\n",
    ),
    (
        445646,
        "go.sum database tree\n445646\njEFFy4AtYgBBNTSZTiNnQrgQqMbcH0mfO2oP2FxR9VU=\n\n"
        "— sum.golang.org "
        "Az3grkGho/PqvUmEuTv6+r2g303hUhu60FOD6vLpm19mBwH9UjquWY2OKxNmZ55z0gHrp24AgPC3Q5WO7uZrVdvdCQU=\n",
    ),
]
# golang.org/x/mod, sumdb/tlog/note_test.go.
GO_TREE = "go.sum database tree\n123456789012\nTszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=\n"
# The examples in c2sp.org/signed-note and c2sp.org/tlog-checkpoint, whose keys are not published.
C2SP_NOTE = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore "
    "NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
)
C2SP_CHECKPOINT = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
)

KEY = SigningKey(bytes(range(32)))
OTHER_KEY = SigningKey(bytes(32))
ORIGIN = "gatehouse/default"
LOG = Verifier(ORIGIN, bytes(KEY.verify_key))
CHECKPOINT = Checkpoint(ORIGIN, 1000, leaf_hash(b"root"))


def sign(message: bytes) -> bytes:
    return KEY.sign(message).signature


NOTE = sign_checkpoint(CHECKPOINT, LOG.public_key, sign)


def reason(note: bytes | str, *verifiers: Verifier) -> str:
    with pytest.raises(InvalidNote) as refusal:
        open_note(note.encode() if isinstance(note, str) else note, verifiers)
    return str(refusal.value)


def test_notes_of_the_go_vectors_open_for_whoever_is_trusted() -> None:
    peter, enoch = Verifier.parse(PETER), Verifier.parse(ENOCH)
    note = (TEXT + "\n" + PETER_LINE + ENOCH_LINE).encode()
    assert open_note(note, [peter]) == (TEXT, (peter,))
    assert open_note(note, [peter, enoch]) == (TEXT, (peter, enoch))
    assert open_note(note, [enoch, enoch]) == (TEXT, (enoch,))
    assert "no signature of a trusted key" in reason(note)
    assert "no signature of a trusted key" in reason(note, LOG)


@pytest.mark.parametrize(("size", "note"), GO_SUM_HEADS)
def test_heads_of_the_go_checksum_database_verify(size: int, note: str) -> None:
    verifier = Verifier.parse(GO_SUM)
    text, signers = open_note(note.encode(), [verifier])
    assert signers == (verifier,)
    assert (Checkpoint.parse(text).origin, Checkpoint.parse(text).size) == ("go.sum database tree", size)
    assert "is wrong" in reason(note.replace(str(size), str(size + 1)), verifier)
    # Its key does not bear the log's name, which we ask of ours.
    with pytest.raises(InvalidNote, match=r"is signed by sum\.golang\.org instead"):
        open_checkpoint(note.encode(), [verifier])


def test_the_examples_of_the_specifications_are_well_formed() -> None:
    for note in (C2SP_NOTE, C2SP_CHECKPOINT):
        assert reason(note, LOG) == "the note has no signature of a trusted key"
    text = C2SP_CHECKPOINT[: C2SP_CHECKPOINT.index("\n\n") + 1]
    assert Checkpoint.parse(text).size == 20852163
    assert Checkpoint.parse(text).text() == text


def test_signing_the_go_vector_gives_its_bytes() -> None:
    # The private key of note_test.go: PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz
    key = SigningKey(bytes.fromhex("810a1402d5146c8d84f2443330f54080ebf98ee17d9c74f6252fc5d5c7283173"))
    peter = Verifier("PeterNeumann", bytes(key.verify_key))
    assert str(peter) == PETER
    assert sign_note(TEXT, peter, lambda message: key.sign(message).signature).decode() == TEXT + "\n" + PETER_LINE


@pytest.mark.parametrize("text", [PETER, ENOCH, GO_SUM])
def test_verifier_keys_read_and_write_the_same(text: str) -> None:
    assert str(Verifier.parse(text)) == text


def test_a_mangled_verifier_key_is_refused() -> None:
    # Every part and every changed character of the key, as note_test.go does.
    mangled = [PETER[start:end] for start in range(len(PETER)) for end in range(start, len(PETER) + 1)]
    mangled += [PETER[:at] + chr(ord(PETER[at]) + 1) + PETER[at + 1 :] for at in range(len(PETER))]
    mangled += [PETER + "=", PETER + "\n", PETER.upper(), PETER.replace("c74f20a3", "C74F20A3")]
    # Also from note_test.go: a key that is too long, an unknown algorithm, each with the key id adjusted.
    mangled += ["PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY=="]
    mangled += ["PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"]
    mangled.remove(PETER)
    for text in mangled:
        with pytest.raises(InvalidNote):
            Verifier.parse(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\u2003b", "a\nb", "a\x01b", "\u3000"])
def test_names_that_a_note_cannot_hold_are_refused(name: str) -> None:
    with pytest.raises(InvalidNote, match="key name"):
        Verifier(name, LOG.public_key)
    if name:
        line = NOTE.decode().splitlines()[-1].replace(f"— {ORIGIN}", f"— {name}")
        assert reason(CHECKPOINT.text() + "\n" + line + "\n", LOG)


PETER_NOTE = TEXT + "\n" + PETER_LINE
MALFORMED = {
    "nothing": b"",
    "no signatures": TEXT.encode(),
    "an empty line and no signature": f"{TEXT}\n".encode(),
    "two empty lines and no signature": f"{TEXT}\n\n".encode(),
    "no trailing newline": PETER_NOTE[:-1].encode(),
    "a line after the signatures": f"{PETER_NOTE}Unexpected line.\n".encode(),
    "an empty line after the signatures": f"{PETER_NOTE}\n".encode(),
    "no empty line": (TEXT + PETER_LINE).encode(),
    "a control character": b"\x01" + PETER_NOTE.encode(),
    "a tab": PETER_NOTE.replace("you think", "you\tthink").encode(),
    "carriage returns": PETER_NOTE.replace("\n", "\r\n").encode(),
    "not UTF-8": b"\xff" + PETER_NOTE.encode(),
    "a surrogate": b"\xed\xa0\x80" + PETER_NOTE.encode(),
    "a hyphen for the dash": PETER_NOTE.replace("—", "-").encode(),
    "no dash": PETER_NOTE.replace("— ", "").encode(),
    "no space after the dash": PETER_NOTE.replace("— ", "—").encode(),
    "no signature in the line": (TEXT + "\n— PeterNeumann\n").encode(),
    "an empty signature": (TEXT + "\n— PeterNeumann \n").encode(),
    "a space in the name": PETER_NOTE.replace("PeterNeumann", "Peter Neumann").encode(),
    "two spaces": PETER_NOTE.replace("Neumann ", "Neumann  ").encode(),
    "a trailing space": (PETER_NOTE[:-1] + " \n").encode(),
    "a plus in the name": PETER_NOTE.replace("PeterNeumann", "Peter+Neumann").encode(),
    "no name": PETER_NOTE.replace("PeterNeumann", "").encode(),
    "no padding": PETER_NOTE.replace("AM=", "AM").encode(),
    "padding too many": PETER_NOTE.replace("AM=", "AM==").encode(),
    "stray bits in the last character": PETER_NOTE.replace("AM=", "AN=").encode(),
    "URL-safe base64": PETER_NOTE.replace("o/ZJ", "o_ZJ").encode(),
    "a character that is not base64": PETER_NOTE.replace("o/ZJ", "o!ZJ").encode(),
    "a key id alone": (TEXT + "\n— PeterNeumann x08gow==\n").encode(),
    "another character for the last newline": (PETER_NOTE[:-1] + "X").encode(),
    "a plus in an unknown key's name": (PETER_NOTE + "— Some+body AAAAAAAA\n").encode(),
    "a space of Unicode in an unknown key's name": (PETER_NOTE + "— Some\u00a0body AAAAAAAA\n").encode(),
    "an unknown key's id without a signature": (PETER_NOTE + "— Somebody AAAAAA==\n").encode(),
    "malformed, though of an unknown key": (PETER_NOTE + "— Somebody x08gox==\n").encode(),
    "a signature twice": (PETER_NOTE + PETER_LINE).encode(),
    "a wrong signature": PETER_NOTE.replace("o/ZJ", "o/ZK").encode(),
    "a signature that is too long": PETER_NOTE.replace("o/ZJ", "o/ZJABCD").encode(),
    "a signature that is too short": PETER_NOTE.replace("o/ZJ", "").encode(),
    "another text": PETER_NOTE.replace("your problem", "my problem").encode(),
    "one signature right and one wrong": (PETER_NOTE + ENOCH_LINE.replace("BzmZ", "BzmY")).encode(),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_note_is_refused(name: str) -> None:
    assert reason(MALFORMED[name], Verifier.parse(PETER), Verifier.parse(ENOCH))


@pytest.mark.parametrize(
    "text", ["", "A", "AAA", "AA=", "AA==AA==", "AAAA\n", " AAAA", "AA!AA", "AB==", "AAA-", "\u00e9AAA"]
)
def test_base64_has_one_form_and_is_never_nothing(text: str) -> None:
    assert decode_base64("AA==") == b"\0"
    with pytest.raises(InvalidNote, match="is not canonical base64"):
        decode_base64(text)


def test_the_reason_names_what_is_wrong() -> None:
    peter = Verifier.parse(PETER)
    assert reason(MALFORMED["not UTF-8"], peter) == "the note is not UTF-8"
    assert reason(MALFORMED["a tab"], peter) == "the note holds a control character"
    assert reason(MALFORMED["a signature twice"], peter) == "the note has two signatures of key PeterNeumann+c74f20a3"
    assert reason(MALFORMED["another text"], peter) == "the note's signature of key PeterNeumann+c74f20a3 is wrong"
    assert "is not canonical base64" in reason(MALFORMED["stray bits in the last character"], peter)
    assert "longer than" in reason(b"x" * (MAX_NOTE_BYTES + 1), peter)
    assert "longer than" not in reason(b"x" * MAX_NOTE_BYTES, peter)


def test_signatures_of_witnesses_and_of_keys_that_share_a_name_or_an_id_are_ignored() -> None:
    same_name = "— PeterNeumann AAAAAAAAAAAA\n"
    same_id = PETER_LINE.replace("PeterNeumann", "Impostor")
    witness = "— witness.example " + b64encode(bytes(4 + 5000)).decode() + "\n"
    peter = Verifier.parse(PETER)
    short = "— witness.example " + b64encode(bytes(5)).decode() + "\n"
    for others in (same_name, same_id, witness * 16, same_name * 2, short):
        assert open_note((TEXT + "\n" + others + PETER_LINE).encode(), [peter]) == (TEXT, (peter,))
        assert "no signature of a trusted key" in reason(TEXT + "\n" + others, peter)


def test_trusted_keys_that_a_note_cannot_tell_apart_are_refused() -> None:
    twins = [Verifier(ORIGIN, number.to_bytes(32, "big")) for number in (27644, 32100)]
    assert twins[0].key_id == twins[1].key_id
    assert reason(NOTE, LOG, *twins) == "two trusted keys of gatehouse/default have the key id b35cdbb0"


def test_text_may_have_empty_lines_and_end_in_them() -> None:
    for text in ("a\n\nb\n", "a\n\n", "\n", "a\n\n— x\n", "a\n\n\n"):
        assert open_note(sign_note(text, LOG, sign), [LOG])[0] == text


@pytest.mark.parametrize("text", ["", "abc", "a\tb\n", "a\r\n", "\x00\n"])
def test_text_that_a_note_cannot_hold_is_not_signed(text: str) -> None:
    with pytest.raises(InvalidNote):
        sign_note(text, LOG, sign)


def test_a_key_that_is_not_the_verifiers_signs_nothing() -> None:
    with pytest.raises(InvalidNote, match="is wrong"):
        sign_checkpoint(CHECKPOINT, bytes(OTHER_KEY.verify_key), sign)
    with pytest.raises(InvalidNote, match="is wrong"):
        sign_checkpoint(CHECKPOINT, LOG.public_key, lambda message: sign(message)[:-1])


def test_a_checkpoint_is_three_lines_signed_under_its_origin() -> None:
    key_id = sha256(ORIGIN.encode() + b"\n\x01" + LOG.public_key).digest()[:4]
    text = f"{ORIGIN}\n1000\n{b64encode(CHECKPOINT.root).decode()}\n"
    signature = b64encode(key_id + sign(text.encode())).decode()
    assert NOTE.decode() == f"{text}\n— {ORIGIN} {signature}\n"
    assert open_checkpoint(NOTE, [LOG]) == CHECKPOINT


def test_a_tree_of_the_go_vectors_reads_and_writes_the_same() -> None:
    tree = Checkpoint.parse(GO_TREE)
    assert tree == Checkpoint("go.sum database tree", 123456789012, leaf_hash(b"hello world"))
    assert tree.text() == GO_TREE
    extended = Checkpoint.parse(GO_TREE + "JOE\n")
    assert extended.extensions == ("JOE",)
    assert extended.text() == GO_TREE + "JOE\n"


ROOT_LINE = b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        f"{ORIGIN}\n5\n",
        f"{ORIGIN}\n5\n{ROOT_LINE}",
        f"\n5\n{ROOT_LINE}\n",
        f"{ORIGIN}\n\n5\n{ROOT_LINE}\n",
        f"{ORIGIN}\n5\n{ROOT_LINE}\n\n",
        f"{ORIGIN}\n5\n{ROOT_LINE}\n\nextension\n",
        f"{ORIGIN}\r\n5\r\n{ROOT_LINE}\r\n",
        f"{ORIGIN}\n\n{ROOT_LINE}\n",
        *(
            f"{ORIGIN}\n{size}\n{ROOT_LINE}\n"
            for size in (
                "05",
                "00",
                "-1",
                "+5",
                " 5",
                "5 ",
                "5.0",
                "1e3",
                "0x5",
                "\u0665",
                "1_000",
                str(2**63),
                "9" * 5000,
            )
        ),
        f"{ORIGIN}\n5\n{b64encode(bytes(31)).decode()}\n",
        f"{ORIGIN}\n5\n{b64encode(bytes(33)).decode()}\n",
        f"{ORIGIN}\n5\n{ROOT_LINE[:-2]}B=\n",
        f"{ORIGIN}\n5\n{ROOT_LINE[:-1]}\n",
        f"{ORIGIN}\n5\n{bytes(32).hex()}\n",
    ],
)
def test_text_that_is_no_checkpoint_is_refused_though_signed(text: str) -> None:
    with pytest.raises(InvalidNote):
        Checkpoint.parse(text)
    if text.endswith("\n") and "\r" not in text:
        with pytest.raises(InvalidNote):
            open_checkpoint(sign_note(text, LOG, sign), [LOG])


@pytest.mark.parametrize(
    ("origin", "size", "root", "extensions"),
    [
        ("", 1, bytes(32), ()),
        ("a\nb", 1, bytes(32), ()),
        ("a\x00", 1, bytes(32), ()),
        ("a", -1, bytes(32), ()),
        ("a", 2**63, bytes(32), ()),
        ("a", 1, bytes(31), ()),
        ("a", 1, bytes(32), ("",)),
        ("a", 1, bytes(32), ("x\ny",)),
    ],
)
def test_values_that_no_checkpoint_has_are_refused(
    origin: str, size: int, root: bytes, extensions: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidNote):
        Checkpoint(origin, size, root, extensions)


def test_an_origin_says_its_chains_name_so_that_no_other_has_it() -> None:
    assert origin_of("default") == ORIGIN
    assert origin_of("a/b X+\u00e9") == "gatehouse/a%2Fb%20X%2B%C3%A9"
    assert origin_of("a%2Fb") == "gatehouse/a%252Fb"


def test_the_empty_tree_has_a_checkpoint() -> None:
    empty = Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert open_checkpoint(sign_checkpoint(empty, LOG.public_key, sign), [LOG]) == empty


def test_one_chains_key_does_not_speak_for_another() -> None:
    forged = sign_note(Checkpoint("gatehouse/other", 5, bytes(32)).text(), LOG, sign)
    with pytest.raises(InvalidNote, match="'gatehouse/other' is signed by gatehouse/default instead"):
        open_checkpoint(forged, [LOG])


def test_after_a_rotation_either_key_is_enough() -> None:
    new = Verifier(ORIGIN, bytes(OTHER_KEY.verify_key))
    assert open_checkpoint(NOTE, [new, LOG]) == CHECKPOINT
    note = sign_checkpoint(CHECKPOINT, new.public_key, lambda message: OTHER_KEY.sign(message).signature)
    assert open_checkpoint(note, [new, LOG]) == CHECKPOINT
    with pytest.raises(InvalidNote, match="no signature of a trusted key"):
        open_checkpoint(note, [LOG])


@given(st.data())
def test_any_changed_byte_of_a_checkpoint_is_found(data: st.DataObject) -> None:
    at, mask = data.draw(st.integers(0, len(NOTE) - 1)), data.draw(st.integers(1, 255))
    changed = NOTE[:at] + bytes([NOTE[at] ^ mask]) + NOTE[at + 1 :]
    with pytest.raises(InvalidNote):
        open_checkpoint(changed, [LOG])


@given(st.binary(max_size=80), st.text(max_size=80))
def test_no_input_gets_anything_but_a_refusal(data: bytes, text: str) -> None:
    for note in (data, text.encode(errors="replace"), b"a\n\n\xe2\x80\x94 " + data):
        with pytest.raises(InvalidNote):
            open_note(note, [LOG])
    with pytest.raises(InvalidNote):
        Verifier.parse(text)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_every_chain_has_an_origin_of_its_own_that_can_name_a_key(chain: str, other: str) -> None:
    assert Verifier.parse(str(Verifier(origin_of(chain), LOG.public_key))).name == origin_of(chain)
    assert (origin_of(chain) == origin_of(other)) == (chain == other)


def test_the_default_chains_origin() -> None:
    assert origin_of("default") == ORIGIN
