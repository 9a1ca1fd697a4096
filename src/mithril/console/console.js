// What the pages of the console do more comfortably with a script; without one, all of it works by links and forms.
"use strict";

const part = async (url, selector) => {
  const answer = await fetch(url, { headers: { accept: "text/html" } });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return { found: page.querySelector(selector), page };
};

// Check what is typed, a moment after the last key, by the page that the form leads to.
for (const form of document.querySelectorAll("form[data-live]")) {
  let timer, last = 0;
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const turn = ++last, place = document.querySelector(form.dataset.live);
      const query = new URLSearchParams(new FormData(form));
      const { found } = await part(`${form.action}?${query}&draft=1`, form.dataset.live);
      if (found && turn === last) place.replaceChildren(...found.childNodes);
    }, 400);
  });
}

// Put older lines of a list below those that are there.
document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-more]");
  if (!link) return;
  event.preventDefault();
  const { found, page } = await part(link.href, link.dataset.more);
  if (!found) return location.assign(link.href);
  const first = found.firstElementChild;
  document.querySelector(link.dataset.more).append(...found.children);
  link.parentElement.replaceWith(...[page.querySelector(`#${link.parentElement.id}`)].filter(Boolean));
  first.tabIndex = -1;
  first.focus();
});

// A form is sent once, however often its button is clicked.
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "yes";
});
addEventListener("pageshow", () => document.querySelectorAll("form").forEach((form) => delete form.dataset.sent));

// Copy the secret; and leave none behind in a page that the browser keeps.
for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.querySelector(button.dataset.copy).textContent);
    document.querySelector("#copied").textContent = button.dataset.copied;
  });
}
addEventListener("pagehide", () => document.querySelectorAll("[data-secret]").forEach((field) => field.replaceChildren()));
