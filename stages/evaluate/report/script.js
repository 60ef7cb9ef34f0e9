"use strict";
const episodes = [...document.querySelectorAll(".episode")];
const count = document.querySelector("#shown");
const choice = { set: "all", verdict: "all", kind: "all" };

function show() {
  let shown = 0;
  for (const episode of episodes) {
    const fits =
      (choice.set === "all" || episode.dataset.set === choice.set) &&
      (choice.verdict === "all" || episode.dataset.verdict === choice.verdict) &&
      (choice.kind === "all" || episode.dataset.kind.split(" ").includes(choice.kind));
    episode.hidden = !fits;
    shown += fits;
  }
  count.textContent = `${shown} of ${episodes.length} shown`;
}

for (const button of document.querySelectorAll("button[data-filter]")) {
  button.addEventListener("click", () => {
    choice[button.dataset.filter] = button.value;
    for (const other of document.querySelectorAll(`button[data-filter="${button.dataset.filter}"]`)) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    show();
  });
}
show();
