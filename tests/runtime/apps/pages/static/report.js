// Reports what a script has found, for the test to compare.
function report(found) {
  return fetch("/reports", {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      "X-XSRFToken": document.querySelector("[name=_xsrf]").value,
    },
    body: JSON.stringify({ found }),
  });
}
