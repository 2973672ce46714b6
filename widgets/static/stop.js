// When the run stops early, and by which metric the best step is chosen.
export default settingsPanel("stop", "Early stopping", () => term("early stopping", "Early stopping"));
