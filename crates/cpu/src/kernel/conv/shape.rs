//! The shape of a convolution, in one form for one, two and three spatial axes.

/// A convolution over up to three spatial axes (depth, height, width; a missing axis has extent 1, kernel 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Images.
    pub batch: usize,
    /// Channels of the input.
    pub channels: usize,
    /// Channels of the output.
    pub filters: usize,
    /// Groups; both channel counts are multiples of it.
    pub groups: usize,
    /// Spatial extent of the input.
    pub input: [usize; 3],
    /// Spatial extent of the kernel.
    pub kernel: [usize; 3],
    /// Step of the window.
    pub stride: [usize; 3],
    /// Step between the taps of the kernel.
    pub dilation: [usize; 3],
    /// Zeros before the input; negative cuts it.
    pub pads_begin: [isize; 3],
    /// Zeros after the input; negative cuts it.
    pub pads_end: [isize; 3],
    /// Step at which the input's elements stand, zeros between: 1 but in transposed convolution.
    pub input_step: [usize; 3],
}

impl ConvShape {
    /// A convolution from the slices ONNX uses, one entry a spatial axis (1 to 3 of them). `None` for another rank, an empty
    /// kernel or stride, channels that the groups do not divide, or a window larger than the padded input.
    pub fn new(
        (batch, channels, filters, groups): (usize, usize, usize, usize),
        input: &[usize],
        kernel: &[usize],
        stride: &[usize],
        dilation: &[usize],
        pads: (&[isize], &[isize]),
    ) -> Option<Self> {
        let rank = input.len();
        let same = [kernel.len(), stride.len(), dilation.len(), pads.0.len(), pads.1.len()];
        if !(1..=3).contains(&rank) || same.iter().any(|&l| l != rank) || groups == 0 {
            return None;
        }
        if channels % groups != 0 || filters % groups != 0 {
            return None;
        }
        let shape = Self {
            batch,
            channels,
            filters,
            groups,
            input: spread(input, 1),
            kernel: spread(kernel, 1),
            stride: spread(stride, 1),
            dilation: spread(dilation, 1),
            pads_begin: spread(pads.0, 0),
            pads_end: spread(pads.1, 0),
            input_step: [1; 3],
        };
        shape.is_valid().then_some(shape)
    }

    /// The convolution that equals a transposed convolution of `input` by `kernel`: the input's elements stand `stride` apart, the
    /// kernel is mirrored (see [`super::Conv::new`]'s `transposed`), and the window moves by one. `pads` cut the result.
    pub fn transposed(
        (batch, channels, filters, groups): (usize, usize, usize, usize),
        input: &[usize],
        kernel: &[usize],
        stride: &[usize],
        dilation: &[usize],
        pads: (&[isize], &[isize]),
        output_padding: &[usize],
    ) -> Option<Self> {
        let rank = input.len();
        let ones = vec![1; rank];
        let same = [
            kernel.len(),
            stride.len(),
            dilation.len(),
            pads.0.len(),
            pads.1.len(),
            output_padding.len(),
        ];
        if same.iter().any(|&l| l != rank) {
            return None;
        }
        let reach = |i: usize| ((kernel[i].max(1) - 1) * dilation[i]) as isize;
        let begin: Vec<isize> = (0..rank).map(|i| reach(i) - pads.0[i]).collect();
        let end: Vec<isize> =
            (0..rank).map(|i| reach(i) - pads.1[i] + output_padding[i] as isize).collect();
        // Checked below with the stretched input, so the plain check may fail here: build it by hand.
        if !(1..=3).contains(&rank)
            || groups == 0
            || channels % groups != 0
            || filters % groups != 0
        {
            return None;
        }
        let shape = Self {
            batch,
            channels,
            filters,
            groups,
            input: spread(input, 1),
            kernel: spread(kernel, 1),
            stride: spread(&ones, 1),
            dilation: spread(dilation, 1),
            pads_begin: spread(&begin, 0),
            pads_end: spread(&end, 0),
            input_step: spread(stride, 1),
        };
        shape.is_valid().then_some(shape)
    }

    fn is_valid(&self) -> bool {
        (0..3).all(|i| {
            self.kernel[i] > 0
                && self.stride[i] > 0
                && self.dilation[i] > 0
                && self.input_step[i] > 0
                && self.padded(i) >= self.window(i) as isize
        })
    }

    /// Extent of axis `i` once stretched and padded.
    pub(crate) fn padded(&self, i: usize) -> isize {
        let stretched =
            if self.input[i] == 0 { 0 } else { (self.input[i] - 1) * self.input_step[i] + 1 };
        stretched as isize + self.pads_begin[i] + self.pads_end[i]
    }

    /// Input positions the kernel spans along axis `i`.
    pub(crate) fn window(&self, i: usize) -> usize {
        (self.kernel[i] - 1) * self.dilation[i] + 1
    }

    /// Spatial extent of the output.
    pub fn output(&self) -> [usize; 3] {
        [0, 1, 2].map(|i| (self.padded(i) as usize - self.window(i)) / self.stride[i] + 1)
    }

    /// Elements of one output channel.
    pub fn output_pixels(&self) -> usize {
        self.output().iter().product()
    }

    /// Elements of one input channel.
    pub fn input_pixels(&self) -> usize {
        self.input.iter().product()
    }

    /// Taps of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Elements of the weights, `filters × channels/groups × kernel`.
    pub fn weights_len(&self) -> usize {
        self.filters * (self.channels / self.groups) * self.taps()
    }

    /// Multiply-adds of one run.
    pub fn macs(&self) -> usize {
        self.batch * self.output_pixels() * self.weights_len()
    }

    pub(crate) fn is_padded(&self) -> bool {
        self.pads_begin != [0; 3] || self.pads_end != [0; 3]
    }
}

/// One to three trailing axes into three.
fn spread<T: Copy>(axes: &[T], fill: T) -> [T; 3] {
    let mut out = [fill; 3];
    let skip = 3 - axes.len();
    out[skip..].copy_from_slice(axes);
    out
}
