//! Spans to an OpenTelemetry collector, over OTLP; only in a binary with the feature `otel`, and only when the
//! environment names one.

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, SpanExporter,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};
use velo_engine::trace::{self, TraceContext};

/// What the traces are said to come from, unless `OTEL_SERVICE_NAME` says otherwise.
const SERVICE: &str = "velo";
/// What is worth exporting, unless `VELO_TRACE` says otherwise.
const SPANS: &str =
    "velo_engine=info,velo_worker=info,velo_api=info,velo_agents=info,velo_cli=info";

/// What exports spans until it is told to stop.
pub(crate) struct Exporter {
    provider: SdkTracerProvider,
}

impl Exporter {
    /// The exporter that the standard variables of the environment ask for; `None` when they name no
    /// collector.
    ///
    /// # Errors
    /// When they name one that cannot be one.
    pub(crate) fn from_env() -> Result<Option<Self>, opentelemetry_otlp::ExporterBuildError> {
        let names = [
            OTEL_EXPORTER_OTLP_ENDPOINT,
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
        ];
        if names.iter().all(|name| std::env::var_os(name).is_none()) {
            return Ok(None);
        }
        let exporter = SpanExporter::builder().with_http().build()?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(SERVICE);
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        trace::on_turn(link);
        trace::on_start(current);
        Ok(Some(Self { provider }))
    }

    /// Takes the spans of this process.
    pub(crate) fn layer<S>(&self) -> impl Layer<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let filter =
            EnvFilter::try_from_env("VELO_TRACE").unwrap_or_else(|_| EnvFilter::new(SPANS));
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer(SERVICE))
            .with_filter(filter)
    }

    /// Sends what is left, for a few seconds at most.
    pub(crate) fn stop(&self) {
        if let Err(error) = self.provider.shutdown() {
            eprintln!("could not send the last spans: {error}");
        }
    }
}

/// The span that this is in, if it is exported.
fn current() -> Option<TraceContext> {
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    let flags = span.trace_flags().to_u8();
    let header = format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id());
    header.parse().ok()
}

/// Makes a turn a part of the trace that its run was started in.
fn link(span: &Span, context: &TraceContext) {
    let (Ok(trace), Ok(parent)) = (
        TraceId::from_hex(context.trace_id()),
        SpanId::from_hex(context.parent_id()),
    ) else {
        return;
    };
    let flags = if context.is_sampled() {
        TraceFlags::SAMPLED
    } else {
        TraceFlags::default()
    };
    let parent = SpanContext::new(trace, parent, flags, true, TraceState::default());
    let parent = opentelemetry::Context::new().with_remote_span_context(parent);
    // It fails when the span is not exported.
    let _ = span.set_parent(parent);
}
