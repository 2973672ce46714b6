// What keeps the model from forgetting: progressive unfreezing.
export default settingsPanel("keep", "Retention", () => term("retention", "Retention"));
