import dataclasses
import math
import socket
import time
import traceback

import pytest
from tests.models.llava.made_up import SPEC, make_window
from tests.models.llava.server import Server, completion, images_of

from failsafe.errors import AssessmentError, UserError
from failsafe.models.conformance import check_model
from failsafe.models.contract import RecoveryModel, assess_safely, embodiment_of
from failsafe.models.llava.answer import Answer, answer_schema, format_answer
from failsafe.models.llava.card import LlavaCard
from failsafe.models.llava.endpoint import EndpointModel
from failsafe.models.llava.prompt import prompt_text
from failsafe.records.assessment import Status
from failsafe.records.embodiment import LIBERO_PANDA

ANSWER = Answer(True, "goal", "slip", ((31, 6, -210, -1, -2, -658, 100),) * 4)
TEXT = format_answer(ANSWER)
CARD = LlavaCard(SPEC)


def tokens(text=TEXT, yes=0.8, no=0.1):
    rest = text[len('{"failing":"yes') :]
    listed = {"yes": math.log(yes), "no": math.log(no), "maybe": math.log(0.05)}
    # As vLLM lists them: the token that ends the answer is among them, and not in the text.
    end = ("<|im_end|>", -0.001, {})
    return [('{"failing":"', -0.01, {}), ("yes", math.log(yes), listed), (rest, -0.2, {}), end]


PROXIES = [
    {"ALL_PROXY": "socks5://127.0.0.1:9"},
    {"all_proxy": "socks://127.0.0.1:9"},
    {"HTTP_PROXY": "http://me:sesame@127.0.0.1:9"},
    {"NO_PROXY": "[::1]"},
]
"""Environments that must not be in the way to this machine."""


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with Server(lambda request: completion(TEXT, tokens())) as running:
        yield running


@pytest.fixture
def make_model():
    made = []

    def make(url, card=CARD, **settings):
        made.append(EndpointModel(url, "failsafe-vlm", card, **{"timeout": 5.0, "pause": 0.01, **settings}))
        return made[-1]

    yield make
    for model in made:
        model.close()


def test_a_assessment(server, make_model):
    model = make_model(server.url, LlavaCard(SPEC, modes=("slip",)), api_key="secret")
    assert isinstance(model, RecoveryModel)
    assessment = model.assess(make_window(0))
    assert assessment.status is Status.OK
    assert assessment.failure_probability == pytest.approx(0.8 / 0.9)
    assert (assessment.stage, assessment.mode, assessment.actions) == ("goal", "slip", ANSWER.actions)
    assert assessment.raw == TEXT
    assert assess_safely(model, make_window(0)).latency > 0


def test_it_keeps_the_contract(server, make_model):
    checks = check_model(make_model(server.url), [make_window(index) for index in range(4)])
    assert [check for check in checks if not check.passed] == []


def test_instructions_never_seen(server, make_model):
    card = LlavaCard(SPEC, instructions=("Fold the shirt",))
    with pytest.raises(AssessmentError, match="expected one of the instructions 'Fold the shirt'"):
        make_model(server.url, card).assess(make_window(0))
    assert assess_safely(make_model(server.url, card), make_window(0)).status is Status.REFUSED
    assert not server.requests
    anyway = make_model(server.url, card, any_instruction=True)
    assert anyway.assess(make_window(0)).status is Status.OK


def test_what_is_asked(server, make_model):
    window = make_window(4)
    card = LlavaCard(SPEC, modes=("slip", "drift"))
    make_model(server.url, card, api_key="secret").assess(window)
    (request,) = server.requests
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert request["model"] == "failsafe-vlm"
    assert (request["temperature"], request["logprobs"], request["top_logprobs"]) == (0.0, True, 20)
    form = request["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["schema"] == answer_schema(card.embodiment, ("slip", "drift"))
    shown, words = images_of(request)
    assert words == prompt_text(window)
    assert [image.tobytes() for image in shown] == [f.tobytes() for view in window.frames for f in view]


def test_its_card_states_the_robot_that_it_moves(make_model):
    far = format_answer(Answer(True, "goal", "slip", ((400, 0, 0, 0, 0, 0, 100),)))  # 40 mm in one step
    with Server(lambda request: completion(far, tokens(far))) as server:
        model = make_model(server.url, LlavaCard(SPEC, embodiment=LIBERO_PANDA))
        assert model.assess(make_window(0)).actions == ((0.04, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),)
        assert server.requests[0]["response_format"]["json_schema"]["schema"] == answer_schema(LIBERO_PANDA)
        assert embodiment_of(model) == LIBERO_PANDA
        assert make_model(server.url).assess(make_window(0)).status is Status.UNREADABLE


def test_faults_that_pass(server, make_model):
    server.faults = [500, "hang up"]
    assert make_model(server.url).assess(make_window(0)).status is Status.OK
    assert len(server.requests) == 3


def test_it_gives_up(server, make_model):
    server.faults = [503] * 9
    assessment = make_model(server.url, retries=2).assess(make_window(0))
    assert assessment.status is Status.REFUSED
    assert "status 503" in assessment.reason
    assert "out of memory" in assessment.reason
    assert len(server.requests) == 3


def test_what_is_wrong_for_good_is_asked_once(server, make_model):
    server.faults = [404]
    assessment = make_model(server.url).assess(make_window(0))
    assert assessment.status is Status.REFUSED
    assert "status 404" in assessment.reason
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", ["stall", "trickle"])
def test_time_is_bounded(server, make_model, fault):
    server.faults = [fault] * 9
    begun = time.monotonic()
    assessment = make_model(server.url, timeout=0.4).assess(make_window(0))
    assert time.monotonic() - begun < 2.0
    assert assessment.status is Status.REFUSED
    assert "within 0.4 s" in assessment.reason


def test_half_a_response(server, make_model):
    server.faults = ["half"] * 9
    assessment = make_model(server.url, retries=1).assess(make_window(0))
    assert assessment.status is Status.REFUSED
    assert "no answer" in assessment.reason
    assert len(server.requests) == 2


def test_nobody_there(make_model):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        assessment = make_model(f"http://127.0.0.1:{taken.getsockname()[1]}/v1").assess(make_window(0))
    assert assessment.status is Status.REFUSED
    assert "no answer" in assessment.reason


def test_half_an_answer(server, make_model):
    server.reply = lambda request: completion(TEXT[:40], finish="length")
    assessment = make_model(server.url).assess(make_window(0))
    assert assessment.status is Status.UNREADABLE
    assert "cut the answer short" in assessment.reason
    assert assessment.raw == TEXT[:40]


@pytest.mark.parametrize(
    "text",
    ["I think it fails.", "{}", TEXT.replace("yes", "perhaps"), TEXT.replace("-210", "-9999"), "", "null"],
)
def test_an_answer_that_breaks_the_schema(server, make_model, text):
    server.reply = lambda request: completion(text, [(text, -0.1, {})])
    assessment = make_model(server.url).assess(make_window(0))
    assert assessment.status is Status.UNREADABLE
    assert assessment.raw == text
    assert not assessment.actions


def test_a_kind_that_it_was_not_trained_on(server, make_model):
    assessment = make_model(server.url, LlavaCard(SPEC, modes=("drift",))).assess(make_window(0))
    assert (assessment.status, assessment.raw) == (Status.UNREADABLE, TEXT)
    assert "expected one of the modes drift, got 'slip'" in assessment.reason


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"<html>gateway</html>",
        b"[]",
        b"[" * 100_000,
        {"choices": []},
        {"choices": [{"message": {"content": None}}]},
        {"choices": [{"message": {"content": None, "refusal": "I must not."}}]},
        b"x" * 5_000_000,
    ],
)
def test_a_response_that_is_none(server, make_model, reply):
    server.reply = lambda request: reply
    assessment = make_model(server.url).assess(make_window(0))
    assert assessment.status is Status.REFUSED
    assert assessment.reason


@pytest.mark.parametrize(
    "damage",
    [
        lambda choice: choice.update(logprobs=None),
        lambda choice: choice.update(logprobs={"content": None}),
        lambda choice: choice["logprobs"]["content"].pop(0),
        lambda choice: choice["logprobs"].update(content=choice["logprobs"]["content"][:2]),
        lambda choice: choice["logprobs"]["content"][1].update(top_logprobs=[]),
        lambda choice: choice["logprobs"]["content"][1].update(logprob="high"),
        lambda choice: choice["logprobs"]["content"][1].update(logprob=3.0),
        lambda choice: choice["logprobs"]["content"][1].update(token=7),
    ],
)
def test_without_log_probabilities_the_word_counts_only_if_asked_for(server, make_model, damage):
    reply = completion(TEXT, tokens())
    damage(reply["choices"][0])
    server.reply = lambda request: reply
    refused = make_model(server.url).assess(make_window(0))
    assert refused.status is Status.REFUSED
    assert "the word alone is not a probability" in refused.reason
    taken = make_model(server.url, word_counts=True).assess(make_window(0))
    assert (taken.status, taken.failure_probability) == (Status.OK, 1.0)


@pytest.mark.parametrize("environment", PROXIES, ids=lambda environment: next(iter(environment)))
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_this_machine_is_not_reached_through_a_proxy(server, make_model, monkeypatch, environment, host):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    model = make_model(server.url.replace("127.0.0.1", host))
    assert model.assess(make_window(0)).status is Status.OK


@pytest.mark.parametrize("environment", [PROXIES[0], PROXIES[1], PROXIES[3]], ids=["socks5", "socks", "no"])
def test_a_proxy_that_cannot_be_used_is_one_sentence(make_model, monkeypatch, environment):
    ((name, value),) = environment.items()
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("HTTPS_PROXY", "http://me:sesame@127.0.0.1:9")
    with pytest.raises(UserError, match=r"that can be used for models\.example") as raised:
        make_model("https://models.example/v1")
    shown = "".join(traceback.format_exception(raised.value))
    assert name in str(raised.value)
    assert "sesame" not in shown


def test_a_proxy_of_the_environment_serves_other_machines(server, make_model, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assessment = make_model("http://models.example/v1", retries=0).assess(make_window(0))
    assert assessment.status is Status.REFUSED
    assert "Connection refused" in assessment.reason


def test_a_key_is_sent_without_the_end_of_its_line_and_never_shown(server, make_model):
    model = make_model(server.url, api_key=" sesame\n")
    assert model.assess(make_window(0)).status is Status.OK
    assert server.headers[0]["Authorization"] == "Bearer sesame"
    assert "sesame" not in repr(model)
    server.faults = [401]
    server.reply_to_faults = {"error": {"message": "Incorrect API key provided: sesame."}}
    reason = model.assess(make_window(0)).reason
    assert "Incorrect API key provided: [key]." in reason
    for key in ("open\nsesame", "sesame\x7f", "sésame"):
        with pytest.raises(UserError, match="to be a key of printable ASCII characters") as raised:
            make_model(server.url, api_key=key)
        assert "same" not in "".join(traceback.format_exception(raised.value)).split("Error: ")[-1]


@pytest.mark.parametrize("path", ["", "/", "/v2"])
def test_an_address_without_v1(server, make_model, path):
    assessment = make_model(server.url.removesuffix("/v1") + path).assess(make_window(0))
    assert assessment.status is Status.REFUSED
    assert "status 404" in assessment.reason
    assert "the address has no /v1, which most servers expect: http://HOST:PORT/v1" in assessment.reason
    assert make_model(server.url + "/").assess(make_window(0)).status is Status.OK
    server.faults = [404]
    assert "has no /v1" not in make_model(server.url).assess(make_window(0)).reason


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://me:sesame@127.0.0.1:8000/v1", "got one with a user name"),
        ("http://127.0.0.1:8000/v1?key=1", "with a query or a fragment"),
        ("http://127.0.0.1:8000/v1/chat/completions", "leave out /chat/completions"),
        ("http:///v1", "expected an endpoint such as"),
    ],
)
def test_addresses_that_are_no_endpoint(make_model, url, problem):
    with pytest.raises(UserError, match=problem) as raised:
        make_model(url)
    assert "sesame" not in str(raised.value)


def test_bad_input(server, make_model):
    with pytest.raises(UserError, match="expected an endpoint"):
        make_model("127.0.0.1:8000")
    with pytest.raises(UserError, match="expected an endpoint"):
        make_model("http://[::bad/v1")
    with pytest.raises(UserError, match="timeout above 0"):
        make_model(server.url, timeout=0.0)
    other = make_window(0, dataclasses.replace(SPEC, views=("front",)))
    with pytest.raises(AssessmentError, match="views"):
        make_model(server.url).assess(other)
    assert not server.requests
