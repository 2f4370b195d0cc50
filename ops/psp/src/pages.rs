//! The page that stands for the payer's bank: plain HTML without scripts, a question and two buttons.

use crate::intent::{Intent, Status};

/// Asks the payer to approve the payment.
pub(crate) fn question(intent: &Intent) -> String {
    let amount = amount(intent);
    let action = format!(
        "/_sim/authenticate/{}?client_secret={}",
        escape(&intent.id),
        escape(&intent.client_secret)
    );
    let what = intent.description.as_deref().unwrap_or("an order");
    page(
        "Approve the payment",
        &format!(
            "<p>Your bank asks: do you approve the payment of <strong>{amount}</strong> for {}?</p>\n\
             <form method=\"post\" action=\"{action}\">\n\
             <button type=\"submit\" name=\"decision\" value=\"approve\">Approve</button>\n\
             <button type=\"submit\" name=\"decision\" value=\"refuse\">Refuse</button>\n\
             </form>",
            escape(what)
        ),
    )
}

/// Says how the payment stands when there is nothing to ask, or nowhere to go back to.
pub(crate) fn standing(intent: &Intent) -> String {
    let said = match intent.status {
        Status::Succeeded | Status::RequiresCapture => "The payment was approved.",
        Status::Canceled => "The payment was cancelled.",
        Status::RequiresPaymentMethod | Status::RequiresConfirmation => {
            "The payment was not approved."
        }
        Status::RequiresAction => "The payment waits for your approval.",
    };
    page(
        "Payment",
        &format!("<p>{said} You can close this page.</p>"),
    )
}

/// Says that there is no such payment.
pub(crate) fn unknown() -> String {
    page(
        "No such payment",
        "<p>This address names no payment. Please go back and try again.</p>",
    )
}

/// Where the browser goes once the payer has decided.
pub(crate) fn return_to(intent: &Intent) -> Option<String> {
    let mut url = url::Url::parse(intent.return_url.as_deref()?).ok()?;
    let succeeded = matches!(intent.status, Status::Succeeded | Status::RequiresCapture);
    url.query_pairs_mut()
        .append_pair("payment_intent", &intent.id)
        .append_pair("payment_intent_client_secret", &intent.client_secret)
        .append_pair(
            "redirect_status",
            if succeeded { "succeeded" } else { "failed" },
        );
    Some(url.into())
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title} – test bank</title>\n\
         <style>body{{font:1.125rem/1.5 system-ui,sans-serif;max-width:32rem;margin:3rem auto;padding:0 1rem;\
         color-scheme:light dark}}button{{font:inherit;padding:.6rem 1.2rem;margin-right:.5rem}}</style>\n\
         </head>\n<body>\n<main>\n<h1>{title}</h1>\n{body}\n\
         <p><small>This is a simulated bank. No money moves.</small></p>\n</main>\n</body>\n</html>\n"
    )
}

/// The amount as people write it. Currencies without minor units stand in whole units.
fn amount(intent: &Intent) -> String {
    const WHOLE: [&str; 16] = [
        "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv",
        "xaf", "xof", "xpf",
    ];
    let currency = intent.currency.to_uppercase();
    if WHOLE.contains(&&*intent.currency) {
        format!("{} {currency}", intent.amount)
    } else {
        let (units, cents) = (intent.amount / 100, intent.amount % 100);
        format!("{units}.{cents:02} {currency}")
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
