"""Drives the simulator with Stripe's own library, unchanged.

The first line of the output is the URL where this process takes webhooks. The first line of the input is
then the simulator's address, its key and what it signs events with. Each function whose name begins with
`check_` is a check of its own; the first that fails ends the run.
"""

import json
import queue
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock

import stripe

received = queue.Queue()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        received.put((body, self.headers["stripe-signature"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=receiver.serve_forever, daemon=True).start()
print(f"http://127.0.0.1:{receiver.server_port}/webhook", flush=True)
BASE, KEY, SECRET = sys.stdin.readline().split()
stripe.api_base = BASE
stripe.api_key = KEY
stripe.max_network_retries = 0
browser = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect)


# ------------------------------------------------------------------ helpers


def pay(method="pm_card_visa", amount=12_500, **more):
    """A payment that is confirmed as it is made."""
    more.setdefault("confirm", True)
    if more["confirm"]:
        more.setdefault("return_url", "https://shop.example/back")
    return stripe.PaymentIntent.create(
        amount=amount,
        currency="eur",
        payment_method=method,
        payment_method_types=["card"],
        **more,
    )


def sim(method, path, body=None):
    """Asks what is no part of Stripe's API."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{BASE}/_sim/{path}", data, method=method)
    with browser.open(request) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def plan(on, fault, **more):
    sim("POST", "faults", {"on": on, "fault": fault, **more})


def ledger(reference):
    entries = sim("GET", f"ledger?reference={reference}")["entries"]
    return [(entry["type"], entry["amount"]) for entry in entries]


def refused(kind, call, *args, **kwargs):
    """The error of exactly this class that the call raises."""
    try:
        call(*args, **kwargs)
    except stripe.StripeError as error:
        assert type(error) is kind, f"{type(error).__name__}: {error}"
        return error
    raise AssertionError(f"nothing was raised: {args} {kwargs}")


def eventually(ask):
    deadline = time.monotonic() + 20
    while True:
        found = ask()
        if found:
            return found
        assert time.monotonic() < deadline, "not within 20 s"
        time.sleep(0.02)


def same(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"


# ------------------------------------------------------------------ payments


def check_automatic_capture():
    intent = pay(metadata={"order_id": "auto"}, receipt_email="ada@example.org")
    same((intent.status, intent.amount_received, intent.livemode), ("succeeded", 12_500, False))
    assert isinstance(intent.latest_charge, str)
    whole = stripe.PaymentIntent.retrieve(intent.id, expand=["latest_charge", "payment_method"])
    charge = whole.latest_charge
    same(type(charge), stripe.Charge)
    same((charge.amount_captured, charge.captured, charge.paid), (12_500, True, True))
    same(charge.payment_intent, intent.id)
    same(whole.payment_method.card.brand, "visa")
    same(whole.metadata["order_id"], "auto")
    same(ledger("auto"), [("authorised", 12_500), ("captured", 12_500)])
    found = stripe.Charge.retrieve(charge.id, expand=["payment_intent"])
    same((found.payment_intent.id, found.status), (intent.id, "succeeded"))


def check_confirmation_of_its_own_and_update():
    intent = pay(confirm=False, metadata={"order_id": "two", "away": "1"})
    same(intent.status, "requires_confirmation")
    changed = stripe.PaymentIntent.modify(
        intent.id, amount=9_900, description="Finals", metadata={"seat": "B", "away": ""}
    )
    same((changed.amount, changed.description), (9_900, "Finals"))
    same(changed.metadata.to_dict(), {"order_id": "two", "seat": "B"})
    done = stripe.PaymentIntent.confirm(intent.id, return_url="https://shop.example/back")
    same((done.status, done.amount_received), ("succeeded", 9_900))
    error = refused(stripe.InvalidRequestError, stripe.PaymentIntent.modify, intent.id, amount=5_000)
    same(error.code, "payment_intent_unexpected_state")
    later = stripe.PaymentIntent.modify(intent.id, metadata={"seat": "C"})
    same(later.metadata["seat"], "C")
    empty = stripe.PaymentIntent.create(amount=500, currency="eur")
    same(empty.status, "requires_payment_method")
    ready = stripe.PaymentIntent.modify(empty.id, payment_method="pm_card_mastercard")
    same(ready.status, "requires_confirmation")


def check_manual_capture():
    def authorised(name):
        intent = pay(capture_method="manual", metadata={"order_id": name})
        same((intent.status, intent.amount_capturable, intent.amount_received), ("requires_capture", 12_500, 0))
        return intent

    whole = stripe.PaymentIntent.capture(authorised("whole").id)
    same((whole.status, whole.amount_received, whole.amount_capturable), ("succeeded", 12_500, 0))
    part = authorised("part")
    error = refused(stripe.InvalidRequestError, part.capture, amount_to_capture=12_501)
    same((error.code, error.param), ("amount_too_large", "amount_to_capture"))
    taken = stripe.PaymentIntent.capture(part.id, amount_to_capture=4_000)
    same((taken.status, taken.amount_received), ("succeeded", 4_000))
    same(ledger("part"), [("authorised", 12_500), ("captured", 4_000)])
    error = refused(stripe.InvalidRequestError, stripe.PaymentIntent.capture, part.id)
    same(error.code, "payment_intent_unexpected_state")
    same(error.error.payment_intent.status, "succeeded")
    gone = stripe.PaymentIntent.cancel(authorised("gone").id, cancellation_reason="abandoned")
    same((gone.status, gone.cancellation_reason), ("canceled", "abandoned"))
    for late in (stripe.PaymentIntent.capture, stripe.PaymentIntent.cancel, stripe.PaymentIntent.confirm):
        error = refused(stripe.InvalidRequestError, late, gone.id)
        same((error.code, error.http_status), ("payment_intent_unexpected_state", 400))
    same(ledger("gone"), [("authorised", 12_500), ("canceled", 12_500)])


def check_lists_and_their_pages():
    began = int(time.time())
    ids = [pay(confirm=False, amount=1_000 + n).id for n in range(25)]
    ids.reverse()
    pages = stripe.PaymentIntent.list(limit=7, created={"gte": began})
    same((len(pages.data), pages.has_more), (7, True))
    walked = [intent.id for intent in pages.auto_paging_iter()]
    same(walked[:25], ids)
    backwards = stripe.PaymentIntent.list(limit=7, ending_before=ids[-1])
    same([intent.id for intent in backwards.auto_paging_iter()], ids[-2::-1])
    whole = stripe.PaymentIntent.list(limit=1, expand=["data.payment_method"])
    same(whole.data[0].payment_method.type, "card")
    client = stripe.StripeClient(KEY, base_addresses={"api": BASE}, max_network_retries=0)
    same(client.v1.payment_intents.list({"limit": 3}).data[0].id, ids[0])


# ------------------------------------------------------------------ refunds


def check_refunds():
    intent = pay(metadata={"order_id": "back"})
    first = stripe.Refund.create(
        payment_intent=intent.id, amount=2_500, reason="requested_by_customer", metadata={"why": "rain"}
    )
    same((first.status, first.amount, first.reason, first.currency), ("succeeded", 2_500, "requested_by_customer", "eur"))
    error = refused(stripe.InvalidRequestError, stripe.Refund.create, payment_intent=intent.id, amount=10_001)
    same(error.param, "amount")
    rest = stripe.Refund.create(charge=intent.latest_charge)
    same(rest.amount, 10_000)
    error = refused(stripe.InvalidRequestError, stripe.Refund.create, payment_intent=intent.id)
    same(error.code, "charge_already_refunded")
    found = stripe.Refund.list(payment_intent=intent.id, limit=1)
    same([refund.id for refund in found.auto_paging_iter()], [rest.id, first.id])
    again = stripe.Refund.retrieve(first.id, expand=["charge"])
    same((again.metadata["why"], again.charge.refunded), ("rain", True))
    same(ledger("back")[2:], [("refunded", 2_500), ("refunded", 10_000)])


def check_refunds_that_take_their_time():
    for method, first, last in [
        ("pm_card_pendingRefund", "pending", "succeeded"),
        ("pm_card_refundFail", "succeeded", "failed"),
    ]:
        intent = pay(method, metadata={"order_id": method}, expand=["latest_charge"])
        refund = stripe.Refund.create(payment_intent=intent.id)
        same(refund.status, first)
        # What is on its way cannot be asked for twice.
        error = refused(stripe.InvalidRequestError, stripe.Refund.create, payment_intent=intent.id)
        same(error.code, "charge_already_refunded")
        eventually(lambda: stripe.Refund.retrieve(refund.id).status == last)
        charge = stripe.Charge.retrieve(intent.latest_charge.id)
        same(charge.amount_refunded, 12_500 if last == "succeeded" else 0)
    same(stripe.Refund.retrieve(refund.id).failure_reason, "expired_or_canceled_card")
    same(ledger("pm_card_pendingRefund")[2:], [("refunded", 12_500)])
    same(ledger("pm_card_refundFail")[2:], [("refunded", 12_500), ("refund_failed", 12_500)])
    disputed = pay("pm_card_createDispute")
    error = refused(stripe.InvalidRequestError, stripe.Refund.create, payment_intent=disputed.id)
    same(error.code, "charge_disputed")


# ------------------------------------------------------------------ idempotency


def check_idempotency():
    first = pay(idempotency_key="once", metadata={"order_id": "once"})
    again = pay(idempotency_key="once", metadata={"order_id": "once"})
    same(again.id, first.id)
    same(again.last_response.body, first.last_response.body)
    same(again.last_response.headers["Idempotent-Replayed"], "true")
    same(len(ledger("once")), 2)
    error = refused(stripe.IdempotencyError, pay, amount=600, idempotency_key="once", metadata={"order_id": "once"})
    same((error.http_status, error.error.type), (400, "idempotency_error"))


def check_a_stored_error_is_repeated():
    plan("create", "500", match={"order_id": "broken"})
    make = dict(confirm=False, idempotency_key="broken", metadata={"order_id": "broken"})
    error = refused(stripe.APIError, pay, **make)
    same((error.http_status, error.error.type), (500, "api_error"))
    error = refused(stripe.APIError, pay, **make)
    same(error.headers["Idempotent-Replayed"], "true")
    make["idempotency_key"] = "mended"
    same(pay(**make).status, "requires_confirmation")


def check_a_key_in_use():
    plan("confirm", {"slow": {"ms": 1_500}}, match={"order_id": "busy"})
    intent = pay(confirm=False, metadata={"order_id": "busy"})
    confirm = lambda: stripe.PaymentIntent.confirm(intent.id, idempotency_key="busy")
    slow = threading.Thread(target=confirm)
    slow.start()
    time.sleep(0.5)
    # The library has no class of its own for 409.
    error = refused(stripe.APIError, confirm)
    same((error.http_status, error.error.code), (409, "idempotency_key_in_use"))
    slow.join()
    same(confirm().status, "succeeded")


def check_the_library_gets_through_by_itself():
    stripe.max_network_retries = 3
    try:
        for fault in ("429", "timeout_before", "reset_after", "timeout_after"):
            plan("confirm", fault, match={"order_id": fault}, hold_ms=50)
            intent = pay(metadata={"order_id": fault})
            same(intent.status, "succeeded")
            same(ledger(fault), [("authorised", 12_500), ("captured", 12_500)])
    finally:
        stripe.max_network_retries = 0


# ------------------------------------------------------------------ authentication


def answer(intent, decision):
    """Opens the bank's page and presses a button; returns where the browser is sent."""
    same(intent.next_action.type, "redirect_to_url")
    url = intent.next_action.redirect_to_url.url
    with browser.open(url) as page:
        assert f'value="{decision}"'.encode() in page.read()
    try:
        browser.open(urllib.request.Request(url, f"decision={decision}".encode()))
    except urllib.error.HTTPError as sent:
        same(sent.code, 303)
        return urllib.parse.parse_qs(urllib.parse.urlparse(sent.headers["location"]).query)
    raise AssertionError("the browser is sent nowhere")


def check_a_customer_approves_or_refuses():
    approved = pay("pm_card_threeDSecure2Required")
    same(approved.status, "requires_action")
    same(answer(approved, "approve")["redirect_status"], ["succeeded"])
    same(stripe.PaymentIntent.retrieve(approved.id).status, "succeeded")
    declined = pay("pm_card_authenticationRequired")
    same(answer(declined, "refuse")["redirect_status"], ["failed"])
    found = stripe.PaymentIntent.retrieve(declined.id)
    same(found.status, "requires_payment_method")
    same(found.last_payment_error.code, "payment_intent_authentication_failure")
    again = stripe.PaymentIntent.confirm(declined.id, payment_method="pm_card_visa", return_url="https://shop.example")
    same(again.status, "succeeded")
    manual = pay("pm_card_threeDSecure2Required", capture_method="manual")
    answer(manual, "approve")
    same(stripe.PaymentIntent.capture(manual.id).status, "succeeded")
    error = refused(stripe.CardError, pay, "pm_card_authenticationRequired", error_on_requires_action=True)
    same(error.code, "authentication_required")


# ------------------------------------------------------------------ errors


DECLINES = {
    "pm_card_visa_chargeDeclined": ("card_declined", "generic_decline", "4000000000000002"),
    "pm_card_visa_chargeDeclinedInsufficientFunds": ("card_declined", "insufficient_funds", "4000000000009995"),
    "pm_card_visa_chargeDeclinedLostCard": ("card_declined", "lost_card", "4000000000009987"),
    "pm_card_visa_chargeDeclinedStolenCard": ("card_declined", "stolen_card", "4000000000009979"),
    "pm_card_visa_chargeDeclinedVelocityLimitExceeded": ("card_declined", "card_velocity_exceeded", "4000000000006975"),
    "pm_card_chargeDeclinedExpiredCard": ("expired_card", "expired_card", "4000000000000069"),
    "pm_card_chargeDeclinedIncorrectCvc": ("incorrect_cvc", "incorrect_cvc", "4000000000000127"),
    "pm_card_chargeDeclinedProcessingError": ("processing_error", "processing_error", "4000000000000119"),
    "pm_card_radarBlock": ("card_declined", "fraudulent", "4100000000000019"),
}


def check_declines():
    for method, (code, decline_code, number) in DECLINES.items():
        card = stripe.PaymentMethod.create(
            type="card", card={"number": number, "exp_month": 12, "exp_year": 2034, "cvc": "123"}
        )
        same(card.card.last4, number[-4:])
        for named in (method, card.id):
            error = refused(stripe.CardError, pay, named, confirm=True)
            same((error.http_status, error.code, error.error.decline_code), (402, code, decline_code))
            same(error.error.payment_intent.status, "requires_payment_method")
            assert error.user_message


def check_cards_that_pay():
    numbers = {
        "4242424242424242": "visa", "5555555555554444": "mastercard", "378282246310005": "amex",
        "6011111111111117": "discover", "3056930009020004": "diners", "3566002020360505": "jcb",
        "6200000000000005": "unionpay",
    }
    for number, brand in numbers.items():
        card = {"number": number, "exp_month": 12, "exp_year": 2034, "cvc": "1234" if brand == "amex" else "123"}
        method = stripe.PaymentMethod.create(type="card", card=card)
        same(method.card.brand, brand)
        same(pay(method.id).status, "succeeded")
    for card, code in [
        ({"number": "4242424242424241", "exp_month": 12, "exp_year": 2034}, "incorrect_number"),
        ({"number": "4242424242424242", "exp_month": 13, "exp_year": 2034}, "invalid_expiry_month"),
        ({"number": "4242424242424242", "exp_month": 12, "exp_year": 1034}, "invalid_expiry_year"),
        ({"number": "4242424242424242", "exp_month": 12, "exp_year": 2034, "cvc": "99"}, "invalid_cvc"),
    ]:
        same(refused(stripe.CardError, stripe.PaymentMethod.create, type="card", card=card).code, code)


def check_requests_that_are_wrong():
    make = stripe.PaymentIntent.create
    for kwargs, code, param in [
        ({"currency": "eur"}, "parameter_missing", "amount"),
        ({"amount": 49, "currency": "eur"}, "amount_too_small", "amount"),
        ({"amount": 100_000_000, "currency": "eur"}, "amount_too_large", "amount"),
        ({"amount": 500, "currency": "eur", "amuont": 5}, "parameter_unknown", "amuont"),
        ({"amount": 500, "currency": "eur", "payment_method": "pm_nobody"}, "resource_missing", "payment_method"),
        ({"amount": 500, "currency": "xxx"}, None, "currency"),
    ]:
        error = refused(stripe.InvalidRequestError, make, **kwargs)
        same((error.code, error.param), (code, param))
    error = refused(stripe.InvalidRequestError, stripe.PaymentIntent.retrieve, "pi_nobody")
    same((error.http_status, error.code, error.param), (404, "resource_missing", "intent"))
    error = refused(stripe.AuthenticationError, stripe.PaymentIntent.list, api_key="sk_test_wrong")
    same(error.http_status, 401)
    plan("retrieve", "429")
    error = refused(stripe.RateLimitError, stripe.PaymentIntent.list)
    same((error.http_status, error.error.code), (429, "rate_limit"))
    plan("retrieve", "reset_after")
    refused(stripe.APIConnectionError, stripe.PaymentIntent.list)


# ------------------------------------------------------------------ events


def check_events_and_webhooks():
    while not received.empty():
        received.get()
    intent = pay("pm_card_refundFail", metadata={"order_id": "told"})
    stripe.Refund.create(payment_intent=intent.id)
    wanted = {
        "payment_intent.created", "charge.succeeded", "payment_intent.succeeded", "refund.created",
        "charge.refunded", "refund.updated", "charge.refund.updated", "refund.failed",
    }
    told = {}
    while not wanted <= told.keys():
        body, signature = received.get(timeout=20)
        event = stripe.Webhook.construct_event(body, signature, SECRET)
        thing = event.data.object
        if intent.id in (thing.id, thing.to_dict().get("payment_intent")):
            told[event.type] = (event, body, signature)
    same(told["refund.failed"][0].data.object.status, "failed")
    same(told["payment_intent.succeeded"][0].data.object.id, intent.id)
    event, body, signature = told["charge.refunded"]
    same(event.data.object.amount_refunded, 12_500)

    tampered = body.replace(b"12500", b"12501")
    assert tampered != body
    for wrong in [(tampered, signature, SECRET), (body, signature, "whsec_other"), (body, "t=1,v1=00", SECRET)]:
        refused(stripe.SignatureVerificationError, stripe.Webhook.construct_event, *wrong)
    with mock.patch("stripe._webhook.time.time", return_value=time.time() + 301):
        refused(stripe.SignatureVerificationError, stripe.Webhook.construct_event, body, signature, SECRET)

    found = stripe.Event.retrieve(event.id)
    same((found.type, found.data.object.id), (event.type, event.data.object.id))
    listed = {event.id: event.type for event in stripe.Event.list(limit=5).auto_paging_iter()}
    for kind, (event, _, _) in told.items():
        same(listed[event.id], kind)


checks = [(name, check) for name, check in globals().items() if name.startswith("check_")]
for name, check in checks:
    check()
    print("ok", name.removeprefix("check_"), flush=True)
print(f"{len(checks)} checks passed with stripe {stripe.VERSION}", flush=True)
