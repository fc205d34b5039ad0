// The page renews itself from the server's HTML, in place: what has not changed is not touched, so that open details,
// focus, scroll places, selections and half-filled forms stay. Without this script the page is a plain page.
"use strict";

(() => {
  const EVERY = 5000; // ms between two looks: a person sees a job begin and end
  const LONGEST = 60000; // ms between two looks at a backend that does not answer
  const PATIENCE = 10000; // ms for one answer
  const contact = document.getElementById("contact");
  let wait = EVERY;
  let timer = 0;
  let silentSince = "";

  // What a person has opened stays so, whatever the server says.
  const THEIRS = { DETAILS: ["open"], DIALOG: ["open"] };

  function attributes(old, fresh) {
    const theirs = THEIRS[old.nodeName] || (old === document.activeElement && "value" in old ? ["value"] : []);
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !theirs.includes(name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value && !theirs.includes(name)) old.setAttribute(name, value);
    }
  }

  const alike = (old, fresh) => old.nodeName === fresh.nodeName && (old.id || "") === (fresh.id || "");

  function children(old, fresh) {
    const coming = new Set([...fresh.children].map((child) => child.id).filter(Boolean));
    let at = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      if (next.id) { // what stood before it and is not wanted any more goes first: moving an element takes its focus
        while (at && at.id !== next.id && !coming.has(at.id) && [...old.children].some((child) => child.id === next.id)) {
          const gone = at;
          at = at.nextSibling;
          gone.remove();
        }
      }
      const known = next.id && [...old.children].find((child) => child.id === next.id && alike(child, next));
      if (known && known !== at) old.insertBefore(known, at);
      const here = known || (at && alike(at, next) ? at : null);
      if (!here) {
        old.insertBefore(document.importNode(next, true), at);
        continue;
      }
      if (here === at) at = at.nextSibling;
      renew(here, next);
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  }

  function renew(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeType !== Node.ELEMENT_NODE) {
      old.nodeValue = fresh.nodeValue;
      return;
    }
    attributes(old, fresh);
    children(old, fresh);
  }

  // The address without what the last action said: that is said once.
  function address() {
    const here = new URL(location.href);
    here.searchParams.delete("said");
    here.hash = here.username = here.password = "";
    return here;
  }

  const script = (page) => page.querySelector("script[src]")?.getAttribute("src");
  const touched = () => [...document.querySelectorAll("input:not([type=hidden]), select, textarea")].some((field) =>
    field === document.activeElement || ("defaultValue" in field && field.value !== field.defaultValue));

  function say(text) {
    contact.hidden = !text;
    if (contact.textContent !== text) contact.textContent = text;
  }

  function trouble(status) {
    silentSince = silentSince || new Date().toLocaleTimeString();
    wait = Math.min(wait * 2, LONGEST);
    if (status === 401) say("The backend does not take this sign-in any more: load the page again.");
    else if (status === 404) say("The backend does not know this project any more.");
    else say(`The backend has not answered since ${silentSince}. The page shows what it last said, and goes on by itself.`);
  }

  async function look() {
    clearTimeout(timer);
    timer = 0;
    if (document.hidden) return;
    try {
      const answer = await fetch(address(), { signal: AbortSignal.timeout(PATIENCE), headers: { Accept: "text/html" } });
      if (!answer.ok) trouble(answer.status);
      else {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        if (script(fresh) !== script(document) && !touched()) return location.reload(); // mollm was updated
        document.title = fresh.title;
        renew(document.getElementById("main"), fresh.getElementById("main"));
        wait = EVERY;
        silentSince = "";
        say("");
      }
    } catch (error) {
      trouble(0);
    }
    if (!document.hidden && !timer) timer = setTimeout(look, wait);
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    timer = 0;
    if (!document.hidden) look();
  });
  if (contact && document.getElementById("main")) timer = setTimeout(look, EVERY);
})();
